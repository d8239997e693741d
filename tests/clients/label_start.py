"""Run by MONAI Label's own Python: its server, also where torch is a CPU build, which PyPI's torchvision does not expect."""

import runpy

import torch

if torch.version.cuda is None:
    # compiled operators that nothing here calls; without their names torchvision does not import
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

if __name__ == "__main__":
    runpy.run_module("monailabel.main", run_name="__main__")
