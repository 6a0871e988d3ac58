"""pytest tests/test_repair.py - pixels lost on the way are repaired and counted, and packets go back where they belong."""

from itertools import combinations

import numpy as np
import pytest

from test_raw import FORMATS
from thermal_action import InputError
from thermal_action.raw import KELVIN_OFFSET, PayloadFormat, RawFrame, from_decikelvin
from thermal_action.raw_store import RawRecording
from thermal_action.repair import PixelRepair, RepairCounts, decode_frames, increasing


@pytest.mark.parametrize("marker", [-273.2, -273.15, float("nan"), float("inf"), -50.1])
def test_lost_pixels_take_the_last_valid_value_of_the_same_pixel(marker):
    repair = PixelRepair(2, 3)
    first = np.arange(6, dtype=np.float32) + 20
    second = first + 1
    second[4:] = marker
    third = first + 2
    third[3:] = marker
    repair.repair(first)
    frame, *counts = repair.repair(second)
    assert frame.ravel().tolist() == [21, 22, 23, 24, 24, 25] and counts == [2, 0, False]
    frame, *counts = repair.repair(third)
    assert frame.ravel().tolist() == [22, 23, 24, 24, 24, 25] and counts == [3, 0, False]


def test_a_short_payload_is_a_lost_tail():
    repair = PixelRepair(2, 3)
    repair.repair(np.full(6, 20, np.float32))
    repaired = repair.repair(np.full(2, 30, np.float32))
    assert repaired.frame.ravel().tolist() == [30, 30, 20, 20, 20, 20] and repaired.lost == 4


def test_a_pixel_never_seen_before_takes_the_frames_median_and_is_counted():
    frame, *counts = PixelRepair(2, 3).repair(np.array([20, 22, 24], np.float32))
    assert frame.ravel().tolist() == [20, 22, 24, 22, 22, 22] and counts == [3, 3, False]
    with pytest.raises(ValueError, match="no valid pixel"):
        PixelRepair(2, 3).repair(np.full(6, -273.2, np.float32))


def test_cold_but_possible_temperatures_are_no_loss():
    assert PixelRepair(1, 2).repair(np.array([-49.9, 300], np.float32)).lost == 0


@pytest.mark.parametrize("came", [list(c) for n in range(6) for c in combinations(range(5), n)])
@pytest.mark.parametrize("fill", [True, False])
def test_packets_that_arrived_go_back_where_they_belong(came, fill):
    rng = np.random.default_rng(len(came))
    before = rng.normal(18, 3, 2400).astype(np.float32)
    after = before + rng.normal(0, 0.3, 2400).astype(np.float32)
    packets = [slice(start, min(start + 576, 2400)) for start in range(0, 2400, 576)]
    received = np.concatenate([after[packets[index]] for index in came] or [after[:0]])
    if fill:
        received = np.concatenate([received, np.full(2400 - received.size, -273.2, np.float32)])
    repair = PixelRepair(40, 60, packet_px=576)
    repair.repair(before)
    repaired = repair.repair(received)
    for index, packet in enumerate(packets):
        assert np.array_equal(repaired.frame.ravel()[packet], (after if index in came else before)[packet])
    assert repaired.lost == sum(packet.stop - packet.start for index, packet in enumerate(packets) if index not in came)
    assert repaired.moved == (came != list(range(len(came)))) and not repaired.unseen


def test_a_frame_whose_end_is_missing_or_that_begins_a_recording_is_not_moved():
    before = np.random.default_rng(0).normal(18, 3, 2400).astype(np.float32)
    for received in (before[:1824], before[:1000], np.where(np.arange(2400) % 7 == 0, np.nan, before)):
        repair = PixelRepair(40, 60, packet_px=576)
        repair.repair(before + 0.1)
        repaired = repair.repair(received)
        valid = np.flatnonzero(~np.isnan(received))
        assert not repaired.moved and np.array_equal(repaired.frame.ravel()[valid], received[valid])
        assert not PixelRepair(40, 60, packet_px=576).repair(received).moved
    repair = PixelRepair(16, 16, packet_px=576)
    repair.repair(before[:256])
    assert not repair.repair(before[:100]).moved


def test_the_cheapest_increasing_choice_is_found():
    for seed in range(20):
        costs = np.random.default_rng(seed).random((3, 6))
        best = min(combinations(range(6), 3), key=lambda columns: sum(costs[range(3), columns]))
        assert increasing(costs) == list(best)
    assert increasing(np.zeros((0, 4))) == [] and increasing(np.zeros((2, 3))) == [0, 1]


PACKET = 5
CUTS = {1: 14, 62: 10, 63: 5, 64: 10, 65: 0, 70: 9, 127: 20}  # pixels that arrived; frames 64 and 128 begin blocks


def received(count):
    """Frames of 4x6 pixels in tenths of a degree, that cut short by CUTS and one marked lost at its end."""
    pictures = [np.round(20 + np.random.default_rng(0).normal(0, 3, 24) + np.random.default_rng(index).normal(0, 0.1, 24), 1)
                for index in range(count)]
    for index, arrived in CUTS.items():
        if index < count:
            pictures[index] = np.roll(pictures[index], -PACKET)[:arrived]
    if count > 5:
        pictures[5][-4:] = -273.2
    return pictures


def store(folder, pictures, payload, repeated=()):
    recording = RawRecording(folder, 50)
    for index, picture in enumerate(pictures):
        for _ in range(1 + (index in repeated)):
            recording.append(RawFrame(1000 + 170 * index, index, 6, 4, payload.encode(picture)))
    recording.finish(payload)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("payload", FORMATS, ids=str)
def test_frames_are_repaired_in_blocks_as_one_by_one(tmp_path, payload, count):
    # a live feed has single frames, and a model must see the same
    pictures, repair, counts = received(count), PixelRepair(4, 6, PACKET), RepairCounts()
    store(tmp_path, pictures, payload, repeated=(0, 63, 64))
    expected = [repair.repair(payload.decode(payload.encode(picture))) for picture in pictures]
    blocks = list(decode_frames(tmp_path, payload, (4, 6), PACKET, counts))
    assert [len(block.times) for block in blocks] == [min(64, count - start) for start in range(0, count, 64)]
    assert np.array_equal(np.concatenate([block.pictures for block in blocks]), [each.frame for each in expected])
    assert np.concatenate([block.lost for block in blocks]).tolist() == [each.lost for each in expected]
    assert np.concatenate([block.sequences for block in blocks]).tolist() == list(range(count))
    assert (counts.frames, counts.duplicate_frames) == (count, sum(count > index for index in (0, 63, 64)))
    assert counts.moved_frames == sum(each.moved for each in expected)
    assert counts.lost_pixels == sum(each.lost for each in expected) and (counts.lost_pixels > 0) == (count > 1)


@pytest.mark.parametrize("text", ["AAA", "AAAA", PayloadFormat().encode(np.zeros(25)), "eNpjYA"])
@pytest.mark.parametrize("index", [0, 40, 63, 64])
def test_a_frame_that_cannot_be_decoded_is_named_wherever_it_stands_in_a_block(tmp_path, index, text):
    store(tmp_path, received(80), PayloadFormat())
    page = tmp_path / f"{index // 50:06d}.jsonl"
    lines = page.read_text().splitlines(keepends=True)
    lines[index % 50] = lines[index % 50].partition('"frame_data":')[0] + f'"frame_data":"{text}"}}\n'
    page.write_text("".join(lines))
    with pytest.raises(InputError, match=f"frame of {1000 + 170 * index} cannot be decoded"):
        list(decode_frames(tmp_path, PayloadFormat(), (4, 6), PACKET, RepairCounts()))
    lines[index % 50] = lines[index % 50][:-2] + "\n"
    page.write_text("".join(lines))
    with pytest.raises(InputError, match=f"{page.name} has a line that is no raw frame"):
        list(decode_frames(tmp_path, PayloadFormat(), (4, 6), PACKET, RepairCounts()))


def test_every_int16_is_what_float64_makes_of_it():
    numbers = np.arange(-(1 << 15), 1 << 15).astype("<i2")
    for kind in (np.int16, np.float64):
        assert np.array_equal(from_decikelvin(numbers.astype(kind)), (numbers / 10 - KELVIN_OFFSET).astype(np.float32))
