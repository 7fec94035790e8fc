"""Types of everything under config/, and of one run. Reading them from files: paella.config.

They are the only schema: unknown keys, wrong types and values out of range are refused by msgspec
when a value is decoded; what needs more than one field is checked in __post_init__. What a field
means stands once, in its description; docs/reference/ is generated from it.
"""

from paella.schema.base import (
    Bytes,
    Count,
    NonNegative,
    Origin,
    Positive,
    Seconds,
    Seed,
    Size,
    Strict,
)
from paella.schema.device import CopyRates, Device, GpuModel, HostCosts, SmLimits
from paella.schema.mix import Mix, MixModel
from paella.schema.profile import Dim3, Gridded, Kernel, Model, Profile, ProfileDevice
from paella.schema.run import Arrival, Backend, Run, RunSpec
from paella.schema.system import (
    BlockNotes,
    InferenceServer,
    JobsAdmission,
    NoAdmission,
    PerSmAdmission,
    RequestPath,
    ResourceAdmission,
    Segment,
    Streams,
    System,
)

__all__ = [
    "Arrival",
    "Backend",
    "BlockNotes",
    "Bytes",
    "CopyRates",
    "Count",
    "Device",
    "Dim3",
    "GpuModel",
    "Gridded",
    "HostCosts",
    "InferenceServer",
    "JobsAdmission",
    "Kernel",
    "Mix",
    "MixModel",
    "Model",
    "NoAdmission",
    "NonNegative",
    "Origin",
    "PerSmAdmission",
    "Positive",
    "Profile",
    "ProfileDevice",
    "RequestPath",
    "ResourceAdmission",
    "Run",
    "RunSpec",
    "Seconds",
    "Seed",
    "Segment",
    "Size",
    "SmLimits",
    "Streams",
    "Strict",
    "System",
]
