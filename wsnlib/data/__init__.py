"""Data sets with named splits: packed uint8 tensors, or images that are read as they are needed.

A small data set lies in the data root as `<name>.npz` or, for those of torchvision, as torchvision
downloads it. Whatever the source, images are put into one canonical order (by a hash of image and
label), so that every copy gives the same tensors; where their checksum is known, other tensors are
refused. ImageNet lies there as torchvision's folder `imagenet`, photographs of your own as one of another
name; both stream from the disk.
`Dataset.sha256` says which data were read, and every record keeps it.

The data root is the environment variable `WSN_DATA`, else `wsnlib/data` in the user's cache folder.
"""

from wsnlib.data.augmentation import augment
from wsnlib.data.loading import Dataset, image_shape, load_data, num_classes
from wsnlib.data.loading import check_bytes as check_bytes
from wsnlib.data.loading import check_data as check_data
from wsnlib.data.own import image_folder, pack_data
from wsnlib.data.sources import CHECKSUMS, KNOWN, data_root
from wsnlib.data.splits import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataError,
    Split,
    balanced_subset,
)
from wsnlib.data.streaming import StreamedSplit, usable_cpus

__all__ = [
    "CHECKSUMS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "KNOWN",
    "DataError",
    "Dataset",
    "Split",
    "StreamedSplit",
    "augment",
    "balanced_subset",
    "data_root",
    "image_folder",
    "image_shape",
    "load_data",
    "num_classes",
    "pack_data",
    "usable_cpus",
]
