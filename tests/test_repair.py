"""pytest tests/test_repair.py - pixels lost on the way are repaired and counted, and packets go back where they belong."""

from itertools import combinations

import numpy as np
import pytest

from thermal_action.repair import PixelRepair, increasing


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
