"""SlowFast R50 with an action for each person (FastRCNN, AVARoIHead), on our recordings and their annotated boxes.

A person does one thing at a time, so a softmax over the actions (multilabel=False), and no background column: the loss would
never see it, and the answer's softmax would. The map has stride 16, as in MMAction2's own AVA configuration:
3 x 4 cells of 40 x 60 pixels.

run  PYTHONPATH=stages .venv-mmaction2/bin/python .venv-mmaction2/lib/python3.11/site-packages/mmaction/.mim/tools/train.py \
     stages/thermal_action/mmaction2/configs/slowfast_r50_detection.py --work-dir work
"""

_base_ = ["thermal.py"]

stride_16 = dict(spatial_strides=(1, 2, 2, 1))
model = dict(
    type="FastRCNN",
    _scope_="mmdet",
    backbone=dict(_base_.backbone, slow_pathway=dict(_base_.backbone.slow_pathway, **stride_16),
                  fast_pathway=dict(_base_.backbone.fast_pathway, **stride_16)),
    roi_head=dict(
        type="AVARoIHead",
        bbox_roi_extractor=dict(type="SingleRoIExtractor3D", roi_layer_type="RoIAlign", output_size=8, with_temporal_pool=True),
        bbox_head=dict(type="BBoxHeadAVA", background_class=False, multilabel=False, in_channels=2304,
                       num_classes=_base_.num_classes, topk=(1,), dropout_ratio=0.5)),
    data_preprocessor=dict(type="mmaction.ActionDataPreprocessor", mean=_base_.mean, std=_base_.std, format_shape="NCTHW"),
    train_cfg=dict(rcnn=dict(
        assigner=dict(type="MaxIoUAssignerAVA", pos_iou_thr=0.9, neg_iou_thr=0.9, min_pos_iou=0.9),
        sampler=dict(type="RandomSampler", num=32, pos_fraction=1, neg_pos_ub=-1, add_gt_as_proposals=True),
        pos_weight=1.0)),
    test_cfg=dict(rcnn=None))

pipeline = [_base_.load, dict(type="FormatShape", input_format="NCTHW", collapse=True), _base_.pack]
windows = dict(type="ThermalWindows", data_root=_base_.data_root, data_prefix=dict(frames="frames"), pipeline=pipeline,
               look=_base_.look, num_classes=_base_.num_classes)

train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(augment=dict(), ann_file="annotations/train.json", **windows))
# AVARoIHead answers one window at a time; proposals="predictions.csv" here, and boxes="proposed" below, for a detector's boxes
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(test_mode=True, ann_file="annotations/val.json", **windows))
test_dataloader = val_dataloader
val_evaluator = dict(type="ThermalPersonMetric", ann_file=_base_.data_root + "/annotations/val.json")
test_evaluator = val_evaluator
