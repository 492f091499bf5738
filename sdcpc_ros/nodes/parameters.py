"""Every parameter of the node, declared once: name, default, range or choices, description, and when it may change.

Each field of NodeParameters and CameraParameters is a declaration. The node's ROS parameters, its checks and the
README's table come from them. No ROS in here: `python -m sdcpc_ros.nodes.parameters` prints the table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.labels.label_map import ENCODINGS, PRESETS
from sdcpc_ros.nodes.topics import AUTO, IMAGE_TYPES

#: When a parameter may change.
ANY_TIME = "any time"
UNCONFIGURED = "while unconfigured"
AT_START = "at start only"

_TYPE_NAMES = {bool: "bool", int: "integer", float: "double", str: "string", list: "string array"}
_TOPIC = re.compile(r"(~?/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*")


class ParameterError(ValueError):
    """A value, or a combination of values, that is not allowed; the message names the allowed values."""


@dataclass(frozen=True)
class Declaration:
    """One parameter. The type is that of its default: bool, int, float, str or list of str."""

    default: Any
    description: str
    changes: str = UNCONFIGURED
    range: tuple[Any, Any] | None = None  # of a number, both ends included
    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None  # of a string, or of each string in an array
    allowed: str = ""  # `pattern` in words

    @property
    def type_name(self) -> str:
        return _TYPE_NAMES[type(self.default)]

    @property
    def allowed_in_words(self) -> str:
        """Empty if every value of the type is allowed."""
        if self.range is not None:
            return f"{self.range[0]} to {self.range[1]}"
        return " or ".join(self.choices) or self.allowed

    def as_declared(self, value: Any) -> Any:
        """Converts an integer to a double where that is declared, so that `max_gap: 2` is allowed."""
        return float(value) if type(value) is int and type(self.default) is float else value

    def refusal(self, value: Any, name: str) -> str | None:
        """A sentence that says why the value is not allowed for the parameter with this full name, or None."""
        texts = value if isinstance(value, list) else [value]
        if type(value) is not type(self.default) or (texts is value and not all(type(text) is str for text in texts)):
            return f"{name} is {value!r}; a value of type {self.type_name} is needed"
        holds = (
            (self.range is None or self.range[0] <= value <= self.range[1])
            and (not self.choices or value in self.choices)
            and (self.pattern is None or all(self.pattern.fullmatch(text) for text in texts))
        )
        return None if holds else f"{name} is {value!r}; allowed: {self.allowed_in_words}"


def _parameter(default: Any, description: str, **rules: Any) -> Any:
    """A field that is a declared parameter; the arguments are those of Declaration."""
    return field(metadata={"declaration": Declaration(default, description, **rules)})


@dataclass(frozen=True)
class CameraParameters:
    """The parameters of one camera; ROS has them as `<camera>.image_topic` and so on."""

    name: str
    image_topic: str = _parameter(
        "",
        "The camera's images. Empty: <camera>/image_raw, or <camera>/image_raw/compressed, in the node's namespace.",
        pattern=re.compile(rf"|{_TOPIC.pattern}"),
        allowed="a ROS topic name, or empty",
    )
    transport: str = _parameter(
        AUTO,
        "Type of the image topic: raw is sensor_msgs/Image, compressed sensor_msgs/CompressedImage with JPEG or PNG. "
        "auto takes the publisher's type; while there is no publisher, a topic `.../compressed` is compressed.",
        choices=(AUTO, *IMAGE_TYPES),
    )
    camera_info_topic: str = _parameter(
        "",
        "The camera's calibration. Empty: camera_info beside the (raw) image topic, as it is after remapping.",
        pattern=re.compile(rf"|{_TOPIC.pattern}"),
        allowed="a ROS topic name, or empty",
    )

    @classmethod
    def resolve(cls, name: str, image_topic: str, transport: str, camera_info_topic: str) -> CameraParameters:
        """Fills in an empty image topic by the conventions of image_transport. An empty camera_info_topic stays."""
        default = f"{name}/image_raw" + ("/compressed" if transport == "compressed" else "")
        return cls(name, image_topic or default, transport, camera_info_topic)


@dataclass(frozen=True)
class NodeParameters:
    """The parameters of the node, checked."""

    model: str = _parameter(
        DEFAULT_MODEL, "The checkpoint: the name of a shipped model, or the path of a .safetensors file."
    )
    device: str = _parameter(
        "auto",
        "Device that runs the network; auto is the GPU if PyTorch finds one.",
        pattern=re.compile(r"auto|cpu|cuda(:\d+)?"),
        allowed="auto, cpu, cuda or cuda:N",
    )
    backend: str = _parameter(
        "auto",
        "Backend that runs the network. auto: inductor on a GPU, aot on a CPU, and eager where there is no C++ "
        "compiler. eager: PyTorch without compilation; inductor: compiled in this process; aot: compiled ahead of "
        "time; onnxruntime; tensorrt: a TensorRT engine. Frames run eagerly while a backend is built. Configuration "
        "fails and names the missing dependency if the backend is not available.",
        choices=("auto", "eager", "inductor", "aot", "onnxruntime", "tensorrt"),
    )
    precision: str = _parameter(
        "auto",
        "Type of the network's weights, activations and memories; auto is float16 on a GPU and float32 on a CPU.",
        choices=("auto", "float32", "float16", "bfloat16"),
    )
    backend_fallback: bool = _parameter(
        False,
        "If the backend is not available, run eagerly, with a warning in the diagnostics. auto always does this.",
    )
    max_batch: int = _parameter(
        0,
        "Largest batch: waiting frames of several cameras run together if the network sees them at the same size. "
        "0: the number of cameras on a GPU; 1 on a CPU, where a batch gains nothing.",
        changes=ANY_TIME,
        range=(0, 64),
    )
    input_height: int = _parameter(
        0,
        "Height of the network's input, px. 0 for height and width: the camera's aspect ratio, with as many pixels as "
        "in training.",
        range=(0, 8192),
    )
    input_width: int = _parameter(0, "Width of the network's input, px.", range=(0, 8192))
    cameras: tuple[CameraParameters, ...] = _parameter(
        ["camera"],
        "Names of the cameras; each has its own parameters and topics.",
        pattern=re.compile(r"[A-Za-z](_?[A-Za-z0-9])*"),
        allowed="letters, digits and single underscores, beginning with a letter",
    )
    class_names: tuple[str, ...] = _parameter(
        [""],
        "The classes that the model must have, in the order of its ids; configuration fails for other classes. "
        "Empty: any.",
    )
    label_encoding: str = _parameter(
        "mono8",
        "Encoding of the masks. Pixels without a label are 255, 65535 in 16UC1, or -1 in 16SC1.",
        choices=tuple(ENCODINGS),
    )
    label_map: tuple[str, ...] = _parameter(
        [""],
        "Ids of the classes: a list of `name: id` strings, or a list of one YAML file or one preset. `default` is the "
        "id of all other classes, `unlabelled` of pixels without a label. Empty: the model's ids.",
        pattern=re.compile(rf"|[^:]+\.ya?ml|{'|'.join(PRESETS)}|.*\S\s*:\s*-?\d+\s*"),
        allowed=f"name: id, a .yaml file, or a preset ({', '.join(PRESETS)})",
    )
    output_size: str = _parameter(
        "image",
        "Size of mask, confidence and overlay: of the camera image, or of the network's input, which is smaller "
        "(the published camera_info is scaled to it).",
        choices=("image", "network"),
    )
    confidence_threshold: float = _parameter(
        0.0,
        "Pixels with a lower confidence become unlabelled; 0 keeps all.",
        changes=ANY_TIME,
        range=(0.0, 1.0),
    )
    overlay_opacity: float = _parameter(
        0.5,
        "Opacity of the class colours over the camera image in the overlay.",
        changes=ANY_TIME,
        range=(0.0, 1.0),
    )
    max_gap: float = _parameter(
        1.0,
        "A longer gap between two stamps, in seconds, empties the frame buffer.",
        changes=ANY_TIME,
        range=(0.01, 3600.0),
    )
    max_image_pixels: int = _parameter(
        1 << 26,
        "Images with more pixels are rejected, compressed images before they are decoded.",
        changes=ANY_TIME,
        range=(1, 1 << 30),
    )
    autostart: bool = _parameter(
        True,
        "Configure and activate at start, without waiting for a lifecycle manager.",
        changes=AT_START,
    )

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width), or None for the model's own."""
        return (self.input_height, self.input_width) if self.input_height else None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> NodeParameters:
        """From values by full name that their declarations allow. Raises ParameterError if they do not go together."""
        camera_names = values["cameras"]
        if not camera_names or len(set(camera_names)) != len(camera_names):
            raise ParameterError(f"cameras is {camera_names!r}; allowed: one or more names, each once")
        for name in DECLARATIONS.keys() & set(camera_names):  # /diagnostics has a 'model', too
            raise ParameterError(f"cameras is {camera_names!r}, but '{name}' is a parameter: use another name")
        if (values["input_height"] == 0) != (values["input_width"] == 0):
            raise ParameterError(
                f"input_height is {values['input_height']} and input_width {values['input_width']}; "
                "allowed: 0 for both, or for neither"
            )
        cameras = tuple(
            CameraParameters.resolve(name, **{setting: values[f"{name}.{setting}"] for setting in CAMERA_DECLARATIONS})
            for name in camera_names
        )
        texts = {name: tuple(filter(None, values[name])) for name in ("class_names", "label_map")}
        return cls(**({name: values[name] for name in DECLARATIONS} | texts | {"cameras": cameras}))


def _declarations(parameters: type) -> dict[str, Declaration]:
    return {part.name: part.metadata["declaration"] for part in fields(parameters) if "declaration" in part.metadata}


#: By name; those of a camera without the camera's name.
DECLARATIONS, CAMERA_DECLARATIONS = _declarations(NodeParameters), _declarations(CameraParameters)


def declarations_for(camera_names: Sequence[str]) -> dict[str, Declaration]:
    """Every declaration by its full name, for a node with these cameras."""
    of_cameras = {f"{camera}.{name}": d for camera in camera_names for name, d in CAMERA_DECLARATIONS.items()}
    return DECLARATIONS | of_cameras


def unknown_parameters(given: Mapping[str, Any], cameras: Sequence[str]) -> Iterator[str]:
    """Yields a sentence for each parameter that the node does not have, with the nearest known name.

    given: value by full name. Parameters of unknown cameras are ignored if they have their default: the shipped file
    has the parameters of 'camera' even if the launch argument `cameras` names others.
    """
    known = [*declarations_for(cameras), "use_sim_time", "start_type_description_service"]
    for name, value in given.items():
        if name in known or name.startswith(("qos_overrides.", "diagnostic_updater.")):
            continue
        camera, _, setting = name.rpartition(".")
        if setting in CAMERA_DECLARATIONS:
            if value == CAMERA_DECLARATIONS[setting].default:
                continue
            nearest = [f"{near}.{setting}" for near in difflib.get_close_matches(camera, cameras, n=1)]
            otherwise = f": no camera '{camera}' is in cameras ({', '.join(cameras)})"
        else:
            nearest, otherwise = difflib.get_close_matches(name, known, n=1), ""
        text = f"the node has no parameter '{name}'; it is ignored"
        text += f". Did you mean '{nearest[0]}'?" if nearest else otherwise
        yield text


def markdown_table() -> str:
    """The README's table of parameters."""
    lines = ["| parameter | type | default | allowed | may change | meaning |", "|---|---|---|---|---|---|"]
    for full_name, declared in declarations_for(["<camera>"]).items():
        cells = (f"`{full_name}`", declared.type_name, f"`{_as_yaml(declared.default)}`", declared.allowed_in_words)
        lines.append(f"| {' | '.join((*cells, declared.changes, declared.description))} |")
    return "\n".join(lines)


def _as_yaml(value: Any) -> str:
    """A default as a parameter file spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_as_yaml(item) for item in value)}]"
    return value or '""' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    print(markdown_table())
