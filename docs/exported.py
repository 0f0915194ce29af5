"""``python docs/exported.py MODEL.pt2 VIDEO``: the classes of a video by an exported model, without vidlib."""

import json
import sys

import av
import torch
from torchvision.transforms.v2 import functional as F

about = {"about.json": ""}
model = torch.export.load(sys.argv[1], extra_files=about).module()
about = json.loads(about["about.json"])
frames = [frame.to_ndarray(format="rgb24") for frame in av.open(sys.argv[2]).decode(video=0)]
part = len(frames) / about["frames"]  # of each equal part the middle
chosen = [frames[int(i * part + max(0, (part - 1) / 2))] for i in range(about["frames"])]
clip = torch.stack([torch.from_numpy(frame) for frame in chosen]).permute(0, 3, 1, 2)
clip = F.resize(clip, [about["resize"]] * (1 + about["squash"]), F.InterpolationMode.BICUBIC)
clip = F.center_crop(clip, [about["size"]] * 2).permute(0, 2, 3, 1)
scores = model(clip[None])[0]
for score, name in sorted(zip(scores.tolist(), about["classes"], strict=True), reverse=True):
    print(f"{score:.3f}  {name}")
