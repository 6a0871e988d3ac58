"""SlowFast R50 with one action for a whole window (Recognizer3D), on our recordings.

run  PYTHONPATH=stages .venv-mmaction2/bin/python .venv-mmaction2/lib/python3.11/site-packages/mmaction/.mim/tools/train.py \
     stages/thermal_action/mmaction2/configs/slowfast_r50_recognition.py --work-dir work
"""

_base_ = ["thermal.py"]

model = dict(
    type="Recognizer3D",
    backbone=_base_.backbone,
    cls_head=dict(type="SlowFastHead", in_channels=2304, num_classes=_base_.num_classes, spatial_type="avg",
                  dropout_ratio=0.5, topk=(1,), average_clips="prob"),
    data_preprocessor=dict(type="ActionDataPreprocessor", mean=_base_.mean, std=_base_.std, format_shape="NCTHW"))

pipeline = [_base_.load, dict(type="FormatShape", input_format="NCTHW"), _base_.pack]
windows = dict(type="ThermalWindows", data_root=_base_.data_root, data_prefix=dict(frames="frames"), pipeline=pipeline,
               look=_base_.look, num_classes=_base_.num_classes)

train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(augment=dict(), ann_file="annotations/train.json", **windows))
val_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(test_mode=True, ann_file="annotations/val.json", **windows))
test_dataloader = val_dataloader
val_evaluator = dict(type="ThermalClipMetric", ann_file=_base_.data_root + "/annotations/val.json")
test_evaluator = val_evaluator
