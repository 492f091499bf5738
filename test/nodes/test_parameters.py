"""Declarations, refusals and the values that come out; the README's tables follow the declarations."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.nodes import parameters, topics
from sdcpc_ros.nodes.parameters import (
    CAMERA_DECLARATIONS,
    DECLARATIONS,
    CameraParameters,
    NodeParameters,
    ParameterError,
    declarations_for,
    unknown_parameters,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def defaults(*cameras: str) -> dict:
    names = list(cameras) or ["camera"]
    return {name: d.default for name, d in declarations_for(names).items()} | {"cameras": names}


def test_the_defaults_are_allowed_and_described():
    for name, declaration in declarations_for(["<camera>"]).items():
        assert declaration.refusal(declaration.default, name) is None
        assert declaration.description.endswith(".")
    read = NodeParameters.from_values(defaults())
    assert read.cameras == (CameraParameters("camera", "camera/image_raw", "auto", ""),)
    assert read.class_names == () and read.input_size is None


def test_every_field_is_declared():
    assert [f.name for f in fields(NodeParameters)] == list(DECLARATIONS)
    assert {f.name for f in fields(CameraParameters)} == {"name", *CAMERA_DECLARATIONS}


def refusal(name: str, value: object) -> str | None:
    """Of a value by itself, or else beside the defaults of the others."""
    sentence = declarations_for(["camera"])[name].refusal(value, name)
    if sentence is None:
        try:
            NodeParameters.from_values(defaults() | {name: value})
        except ParameterError as error:
            return str(error)
    return sentence


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("overlay_opacity", 1.5, "0.0 to 1.0"),
        ("overlay_opacity", float("nan"), "0.0 to 1.0"),
        ("overlay_opacity", 1, "type double"),
        ("confidence_threshold", -0.1, "0.0 to 1.0"),
        ("max_gap", 0.0, "0.01 to 3600.0"),
        ("max_image_pixels", 0, "1 to"),
        ("input_height", -1, "0 to 8192"),
        ("input_height", True, "type integer"),
        ("label_encoding", "rgb8", "mono8 or 8UC1 or 16UC1 or 16SC1"),
        ("label_map", ["road"], "name: id, a .yaml file, or a preset (nav2)"),
        ("label_map", ["road: x"], "name: id"),
        ("label_map", "nav2", "type string array"),
        ("precision", "int8", "auto or float32 or float16 or bfloat16"),
        ("backend", "abacus", "auto or eager or inductor or aot or onnxruntime or tensorrt"),
        ("output_size", "huge", "image or network"),
        ("device", "gpu", "auto, cpu, cuda or cuda:N"),
        ("cameras", "camera", "type string array"),
        ("cameras", [1], "type string array"),
        ("cameras", ["a b"], "letters, digits"),
        ("cameras", ["a__b"], "letters, digits"),
        ("cameras", [""], "letters, digits"),
        ("cameras", ["a", "a"], "each once"),
        ("cameras", ["model"], "'model' is a parameter"),
        ("cameras", [], "one or more"),
        ("autostart", "yes", "type bool"),
        ("model", None, "type string"),
        ("camera.image_topic", "no spaces please", "ROS topic name"),
        ("camera.image_topic", "/ends/with/", "ROS topic name"),
        ("camera.transport", "theora", "auto or raw or compressed"),
        ("camera.camera_info_topic", "1digit", "ROS topic name"),
        ("input_width", 640, "0 for both"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_is_allowed(name, value, allowed):
    sentence = refusal(name, value)
    assert name in sentence and allowed in sentence


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices(device):
    assert refusal("device", device) is None


@pytest.mark.parametrize(
    ("image_topic", "transport", "image", "info"),
    [
        ("", "raw", "eye/image_raw", "eye/camera_info"),
        ("", "compressed", "eye/image_raw/compressed", "eye/camera_info"),
        ("/a/b/image", "raw", "/a/b/image", "/a/b/camera_info"),
        ("/a/b/image/compressed", "compressed", "/a/b/image/compressed", "/a/b/camera_info"),
        ("/a/b/image/compressed", "auto", "/a/b/image/compressed", "/a/b/camera_info"),
        ("image", "raw", "image", "camera_info"),
        ("/image", "raw", "/image", "/camera_info"),
        ("~/image", "raw", "~/image", "~/camera_info"),
    ],
)
def test_topics_that_are_left_empty_follow_image_transport(image_topic, transport, image, info):
    values = defaults("eye") | {"eye.image_topic": image_topic, "eye.transport": transport}
    (camera,) = NodeParameters.from_values(values).cameras
    assert (camera.image_topic, camera.camera_info_topic) == (image, "")
    assert topics.camera_info_beside(image) == info
    (camera,) = NodeParameters.from_values(values | {"eye.camera_info_topic": "/mine"}).cameras
    assert camera.camera_info_topic == "/mine"


@pytest.mark.parametrize(
    ("topic", "published", "current", "transport"),
    [
        ("/a/image", (), None, "raw"),
        ("/a/image/compressed", (), None, "compressed"),
        ("/a/image", ("compressed",), None, "compressed"),
        ("/a/image/compressed", ("raw",), "compressed", "raw"),
        ("/a/image", ("raw", "compressed"), None, "raw"),
        ("/a/image", ("raw", "compressed"), "compressed", "compressed"),
        ("/a/image", (), "compressed", "compressed"),
    ],
)
def test_transport_auto_goes_by_the_graph_and_then_by_the_name(topic, published, current, transport):
    types = {topics.IMAGE_TYPES[name] for name in published} | {"std_msgs/msg/String"}
    assert topics.choose_transport(topic, types, current) == transport


def test_each_camera_has_parameters_of_its_own():
    values = defaults("left", "right") | {"right.transport": "compressed"}
    assert [camera.transport for camera in NodeParameters.from_values(values).cameras] == ["auto", "compressed"]


def test_the_network_size_is_height_and_width():
    values = defaults() | {"input_height": 360, "input_width": 640}
    assert NodeParameters.from_values(values).input_size == (360, 640)


@given(st.lists(st.text(max_size=5), max_size=3))
def test_class_names_may_be_anything_and_empty_ones_mean_none(names):
    assert NodeParameters.from_values(defaults() | {"class_names": names}).class_names == tuple(n for n in names if n)


@given(
    st.sampled_from(list(DECLARATIONS)),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()), st.lists(st.integers())
    ),
)
def test_any_value_is_taken_or_refused_with_a_sentence(name, value):
    sentence = DECLARATIONS[name].refusal(value, name)
    assert sentence is None or (sentence.startswith(name) and ("allowed: " in sentence or "needed" in sentence))
    if type(value) is not type(DECLARATIONS[name].default):
        assert sentence is not None


def test_the_tables_are_printed_without_ros():
    for module, table in (("parameters", parameters.markdown_table()), ("topics", topics.markdown_table())):
        program = (
            "import runpy, sys; sys.modules['rclpy'] = None; "
            f"runpy.run_module('sdcpc_ros.nodes.{module}', run_name='__main__')"
        )
        printed = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert printed.stdout.strip() == table


def test_the_parameter_table_names_every_parameter_once():
    lines = parameters.markdown_table().splitlines()[2:]
    names = [line.split("`")[1] for line in lines]
    assert names == [*DECLARATIONS, *(f"<camera>.{name}" for name in CAMERA_DECLARATIONS)]
    assert all(line.count("|") == 7 for line in lines)


@pytest.mark.parametrize(("section", "table"), [("parameters", parameters), ("topics", topics)])
def test_the_readme_is_up_to_date(section, table):
    readme = (REPOSITORY / "README.md").read_text()
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    assert begin in readme and end in readme, f"the README lacks {begin} ... {end}"
    shown = readme.partition(begin)[2].partition(end)[0].strip()
    assert shown == table.markdown_table(), f"paste the output of: python -m sdcpc_ros.nodes.{section}"


def test_backends_and_precisions_are_those_there_are():
    """Named here without PyTorch, which takes seconds to import."""
    from sdcpc_ros.inference import BACKENDS, PRECISIONS

    assert (DECLARATIONS["backend"].choices, DECLARATIONS["precision"].choices) == (BACKENDS, PRECISIONS)


def test_the_default_model_is_shipped():
    from sdcpc_ros.model_files.checkpoint import resolve_model

    assert resolve_model(NodeParameters.from_values(defaults()).model).is_file()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("backed", "backend"),
        ("confidence_treshold", "confidence_threshold"),
        ("frnt.image_topic", "front.image_topic"),
        ("front.image_topc", "front.image_topic"),
        ("use_simtime", "use_sim_time"),
    ],
)
def test_the_nearest_name_is_told(name: str, nearest: str) -> None:
    (sentence,) = unknown_parameters({name: "something"}, ["front"])
    assert sentence == f"the node has no parameter '{name}'; it is ignored. Did you mean '{nearest}'?"


def test_a_camera_that_is_not_listed_is_named() -> None:
    (sentence,) = unknown_parameters({"dashboard.transport": "compressed"}, ["eye"])
    assert sentence.endswith("it is ignored: no camera 'dashboard' is in cameras (eye)")


def test_the_shipped_file_warns_of_nothing_whatever_the_cameras_are() -> None:
    values = yaml.safe_load((REPOSITORY / "config" / "segment.yaml").read_text())["/**"]["ros__parameters"]
    given = values | {f"camera.{name}": value for name, value in values.pop("camera").items()}
    given |= {"use_sim_time": True, "qos_overrides./front/image_raw.subscription.depth": 5}
    assert not list(unknown_parameters(given, ["front", "rear"]))
