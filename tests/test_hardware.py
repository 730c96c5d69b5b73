"""What a notebook holds is given back by its last cell; what an exercise needs stays."""

import gc
import subprocess
import sys
import weakref

import torch

import pixelhelpers as ph
from pixelhelpers.hardware import give_memory_back

IN_A_PROCESS_OF_ITS_OWN = """
import psutil, torch
from pixelhelpers.hardware import give_memory_back

def held():
    return psutil.Process().memory_info().rss / 2**20

before = held()
names = {"small": [torch.zeros(2**12) for _ in range(2**14)]}  # 256 MB in pieces that malloc keeps for later
newest = names["small"][-1]  # stays: what lies below it cannot be cut off from the end
there = held()
give_memory_back(names)
print(there - before, held() - before)
"""


def test_images_and_models_go_and_what_was_imported_and_defined_stays():
    model = ph.PixelCNN(hidden=4, blocks=1)
    model.itself = [model]  # only a search for circles frees it
    alive = weakref.ref(model)
    names = {"ph": ph, "torch": torch, "draw": ph.sample, "Block": ph.ResidualBlock, "In": [""], "_oh": {}}
    stays = dict(names)
    names |= {"model": model, "images": torch.zeros(3), "parts": [model], "count": 3}
    gc.disable()
    try:
        del model
        assert alive() is not None
        give_memory_back(names)
        assert names == stays and alive() is None
    finally:
        gc.enable()


def test_what_is_freed_goes_back_to_the_system():
    result = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN], capture_output=True, text=True, check=True, timeout=300
    )
    there, left = map(float, result.stdout.split())
    assert there > 200 and left < there / 2
