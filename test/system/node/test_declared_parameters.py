"""The declarations in a real rclpy node: from parameter files, through changes, to the values read."""

from __future__ import annotations

from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.parameter import Parameter

from sdcpc_ros.nodes.declared_parameters import DeclaredParameters
from sdcpc_ros.nodes.parameters import NodeParameters, ParameterError, declarations_for


@pytest.fixture(scope="module")
def context(module_ros_domain):
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


class Declared(DeclaredParameters):
    """The parameters of a node that says itself whether it is configured."""

    def __init__(self, node) -> None:
        self.node = node
        self.is_configured = False
        super().__init__(node, lambda: self.is_configured)

    def set(self, name, value, kind=None):
        return self.node.set_parameters([Parameter(name, kind, value)])[0]


@pytest.fixture
def declare(context, tmp_path: Path):
    """Declares in a node with these lines in its parameter file."""
    nodes = []

    def declare(*lines: str) -> Declared:
        file = tmp_path / "parameters.yaml"
        body = "".join(f"    {line}\n" for line in lines or ["unrelated: 1"])
        file.write_text(f"/**:\n  ros__parameters:\n{body}")
        arguments = ["--ros-args", "--params-file", str(file)]
        nodes.append(rclpy.create_node("declaring", context=context, cli_args=arguments))
        return Declared(nodes[-1])

    yield declare
    for node in nodes:
        node.destroy_node()


def test_without_a_file_the_defaults_are_read(declare):
    values = {name: declaration.default for name, declaration in declarations_for(["camera"]).items()}
    assert declare().read() == NodeParameters.from_values(values)


def test_a_file_sets_values_of_node_and_cameras(declare):
    read = declare(
        "cameras: [left, right]",
        "right: {transport: compressed}",
        "left.image_topic: /stereo/left",
        "class_names: [free, occupied]",
        "overlay_opacity: 0.75",
        "input_height: 64",
        "input_width: 96",
    ).read()
    left, right = read.cameras
    assert (left.image_topic, right.image_topic) == ("/stereo/left", "right/image_raw/compressed")
    assert (read.class_names, read.overlay_opacity, read.input_size) == (("free", "occupied"), 0.75, (64, 96))


def test_an_empty_list_of_classes_means_those_of_the_model(declare):
    assert declare("class_names: []").read().class_names == ()


@pytest.mark.parametrize(
    "line",
    [
        "overlay_opacity: 2.0",
        "overlay_opacity: true",
        "max_gap: .nan",
        "model: 3",
        "label_encoding: rgb8",
        "cameras: []",
        "cameras: ['a b']",
        "camera.transport: theora",
    ],
)
def test_a_bad_value_in_a_file_is_refused_until_it_is_replaced(declare, line):
    declared = declare(line)
    name = line.partition(":")[0]
    with pytest.raises(ParameterError, match=name):
        declared.read()
    good = {"overlay_opacity": 0.5, "max_gap": 2.0, "cameras": ["camera"], "camera.transport": "raw"}
    assert declared.set(name, good.get(name, "mono8")).successful
    assert declared.read()


def test_a_bad_autostart_does_not_stand_in_the_way(declare):
    assert declare("autostart: 3").read().autostart is True  # it can't be replaced any more


def test_descriptions_ranges_and_what_may_change_can_be_asked_for(declare):
    node = declare().node
    descriptor = node.describe_parameter("overlay_opacity")
    assert descriptor.description and "any time" in descriptor.additional_constraints
    assert (descriptor.floating_point_range[0].from_value, descriptor.floating_point_range[0].to_value) == (0.0, 1.0)
    assert node.describe_parameter("input_width").integer_range[0].to_value == 8192
    assert "mono8 or 8UC1 or 16UC1 or 16SC1" in node.describe_parameter("label_encoding").additional_constraints
    assert node.describe_parameter("autostart").read_only


@pytest.mark.parametrize(
    ("name", "value"), [("model", "other"), ("cameras", ["x"]), ("camera.transport", "compressed")]
)
def test_what_a_configured_node_cannot_change_says_so(declare, name, value):
    declared = declare()
    declared.is_configured = True
    result = declared.set(name, value)
    assert not result.successful and name in result.reason and "unconfigured" in result.reason
    declared.is_configured = False
    assert declared.set(name, value).successful


@pytest.mark.parametrize("configured", [False, True])
def test_what_may_change_at_any_time_does(declare, configured):
    declared = declare()
    declared.is_configured = configured
    for name, value in (
        ("overlay_opacity", 0.1),
        ("confidence_threshold", 0.9),
        ("max_gap", 3.0),
        ("max_image_pixels", 99),
    ):
        assert declared.set(name, value).successful
        assert getattr(declared.read(), name) == value


def test_the_snapshot_follows_every_change_and_stays_immutable(declare):
    declared = declare("max_gap: 2")
    with pytest.raises(ParameterError, match="have not been read"):
        _ = declared.current
    first = declared.read()
    assert declared.current is first and declared.current is declared.current  # nothing is read twice
    assert declared.set("overlay_opacity", 0.25).successful
    assert not declared.set("overlay_opacity", 7.0).successful
    assert (declared.current.overlay_opacity, declared.current.max_gap) == (0.25, 2.0)
    assert first.overlay_opacity == 0.5
    assert declared.set("model", "other").successful  # acts when it is configured again
    assert declared.current.model == first.model and declared.read().model == "other"


def test_new_cameras_bring_their_parameters(declare):
    declared = declare("rear.transport: compressed")
    assert declared.set("cameras", ["rear", "front"]).successful
    assert [camera.transport for camera in declared.read().cameras] == ["compressed", "auto"]
    assert declared.set("front.image_topic", "/f").successful
    assert declared.read().cameras[1].image_topic == "/f"


def test_parameters_of_a_new_camera_can_be_set_at_once(declare):
    declared = declare()
    if not hasattr(declared.node, "add_post_set_parameters_callback"):
        pytest.skip("ROS 2 Humble has no callback after a change: the parameters come with configure")
    assert declared.set("cameras", ["front"]).successful
    assert declared.set("front.image_topic", "/f").successful
    assert declared.read().cameras[0].image_topic == "/f"


def test_a_bad_value_of_a_new_camera_is_refused_while_there_is_the_camera(declare):
    declared = declare("rear.transport: theora")
    assert declared.set("cameras", ["rear"]).successful
    with pytest.raises(ParameterError, match=r"rear\.transport"):
        declared.read()
    assert declared.set("cameras", ["front"]).successful
    assert [camera.name for camera in declared.read().cameras] == ["front"]


def test_classes_may_be_emptied_again(declare):
    declared = declare("class_names: [a]")
    assert declared.set("class_names", [], Parameter.Type.STRING_ARRAY).successful
    assert declared.read().class_names == ()


def test_parameters_of_others_are_left_alone(declare):
    declared = declare()
    assert declared.set("use_sim_time", True).successful


def test_a_whole_number_is_a_number(declare):
    declared = declare("max_gap: 2", "confidence_threshold: 1")
    assert (declared.read().max_gap, declared.read().confidence_threshold) == (2.0, 1.0)
    if hasattr(declared.node, "add_pre_set_parameters_callback"):
        assert declared.set("max_gap", 3).successful
        assert declared.node.get_parameter("max_gap").value == 3.0
        refused = declared.set("max_gap", 0)
        assert not refused.successful and "Min: 0.01, Max: 3600.0" in refused.reason
    refused = declared.set("max_batch", 2.5)
    assert not refused.successful


def test_misspelt_parameters_are_warned_of(start_node, tmp_path):
    """By the node as a process, on its console; nothing is said of what is well."""
    misspelt, other = tmp_path / "misspelt.yaml", tmp_path / "other.yaml"
    misspelt.write_text("/**: {ros__parameters: {backed: inductor, max_gap: 2, frnt: {image_topic: /a}}}")
    other.write_text("/robot/segmentation_node: {ros__parameters: {max_gap: 3}}")
    files = [word for file in (misspelt, other) for word in ("--ros-args", "--params-file", str(file), "--")]
    node = start_node(program=("-m", "sdcpc_ros.nodes.segmentation_node", *files), autostart="false", cameras="[front]")
    node.wait_for_log("nothing in it is used")
    warnings = [line.partition("]: ")[2] for line in node.log().splitlines() if "[WARN]" in line]
    assert warnings[:2] == [
        "the node has no parameter 'backed'; it is ignored. Did you mean 'backend'?",
        "the node has no parameter 'frnt.image_topic'; it is ignored. Did you mean 'front.image_topic'?",
    ]
    assert warnings[2].startswith(f"the parameter file '{other}' is for /robot/segmentation_node, not for this node")
    assert len(warnings) == 3
    assert node.stop() == 0
