"""The model families, by the name that a manifest gives."""

from __future__ import annotations

from collections.abc import Mapping

from engines.families.decoder import Decoder
from engines.families.detr import RfDetr, RtDetr
from engines.families.nanodet import NanoDet
from engines.families.nms_free import YoloNmsFree
from engines.families.yolo import Yolo, YoloV9
from engines.families.yolox import YoloX

FAMILIES: Mapping[str, type[Decoder]] = {
    "nanodet": NanoDet,
    "rfdetr": RfDetr,
    "rtdetr": RtDetr,
    "yolo": Yolo,
    "yolo-nms-free": YoloNmsFree,
    "yolov9": YoloV9,
    "yolox": YoloX,
}
