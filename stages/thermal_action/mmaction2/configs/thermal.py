"""What both configurations share: data, windows, schedule.

THERMAL_DATA is the folder of frames/ and annotations/ (data, if not set), THERMAL_CLASSES the number of actions (14).
"""

default_scope = "mmaction"
custom_imports = dict(imports=[f"thermal_action.mmaction2.{module}" for module in ("dataset", "metric", "hooks")],
                      allow_failed_imports=False)

data_root = "{{$THERMAL_DATA:data}}"
num_classes = int("{{$THERMAL_CLASSES:14}}")
# as params.yaml has them: degrees that become 0 and 1, mean and deviation on that scale
look = dict(temperature_range=(5.0, 45.0), background="window_median")
mean, std = [0.3] * 3, [0.1] * 3
# `read`, a sample's window, is called by this
load = dict(type="LoadThermalWindow")
pack = dict(type="PackActionInputs", meta_keys=("img_shape", "img_key", "video_id", "timestamp", "proposal_scores"))

# 64 frames at once: the slow pathway sees every 8th, the fast one every 2nd, as in Kinetics' 8x8 (which reads every 2nd only)
backbone = dict(
    type="mmaction.ResNet3dSlowFast", pretrained=None, resample_rate=8, speed_ratio=4, channel_ratio=8,
    slow_pathway=dict(type="resnet3d", depth=50, pretrained=None, lateral=True, fusion_kernel=7, conv1_kernel=(1, 7, 7),
                      dilations=(1, 1, 1, 1), conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 1, 1), norm_eval=False),
    fast_pathway=dict(type="resnet3d", depth=50, pretrained=None, lateral=False, base_channels=8, conv1_kernel=(5, 7, 7),
                      conv1_stride_t=1, pool1_stride_t=1, norm_eval=False))

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=24, val_begin=1, val_interval=4)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
                     clip_grad=dict(max_norm=40, norm_type=2))
param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
                   dict(type="CosineAnnealingLR", T_max=24, eta_min=0, by_epoch=True, begin=0, end=24)]
default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"), timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20, ignore_last=False), param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1), sampler_seed=dict(type="DistSamplerSeedHook"),
    sync_buffers=dict(type="SyncBuffersHook"))
custom_hooks = [dict(type="ThermalEpochHook"), dict(type="PlainCheckpointHook")]
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0), dist_cfg=dict(backend="nccl"))
log_processor = dict(type="LogProcessor", window_size=20, by_epoch=True)
randomness = dict(seed=42)
log_level = "INFO"
load_from = None
resume = False
