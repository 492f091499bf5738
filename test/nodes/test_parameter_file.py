"""Parameter files, read as ROS itself reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdcpc_ros.nodes.parameter_file import ParameterFileError, files_for_others, parameters_of, read_parameter_file

CONFIG = Path(__file__).resolve().parents[2] / "config"
FILES = {
    "wildcard": "/**: {ros__parameters: {gap: 1.5, front: {topic: /a, info: /b}}}",
    "full_name": "/robot/eye: {ros__parameters: {gap: 2.0}}",
    "another_node": "/robot/ear: {ros__parameters: {gap: 2.0}}",
    "another_namespace": "/eye: {ros__parameters: {gap: 2.0}}",
    "without_the_slash": "robot/eye: {ros__parameters: {gap: 2.0}}",
    "nested": "robot: {eye: {ros__parameters: {gap: 2.0}}, ear: {ros__parameters: {gap: 3.0}}}",
    "any_namespace": "/**/eye: {ros__parameters: {gap: 2.0}}",
    "any_node_below": "/robot/*: {ros__parameters: {gap: 2.0}}",
    "one_part_is_not_two": "/*: {ros__parameters: {gap: 2.0}}",
    "later_wins": "/**: {ros__parameters: {gap: 1.0, names: [a, b]}}\n/robot/eye: {ros__parameters: {gap: 2.0}}",
    "earlier_loses": "/robot/eye: {ros__parameters: {gap: 2.0}}\n/**: {ros__parameters: {gap: 1.0}}",
    "dotted": "/**: {ros__parameters: {front.topic: /a}}",
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_node_gets_what_ros_gives_it(tmp_path: Path, ros_domain: int, text: str) -> None:
    rclpy = pytest.importorskip("rclpy", reason="no ROS 2 in this environment")
    file = tmp_path / "parameters.yaml"
    file.write_text(text + "\n")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    try:
        node = rclpy.create_node(
            "eye",
            namespace="/robot",
            context=context,
            cli_args=["--ros-args", "--params-file", str(file)],
            automatically_declare_parameters_from_overrides=True,
        )
        given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    given = {
        name: value for name, value in given.items() if name not in ("use_sim_time", "start_type_description_service")
    }
    assert parameters_of(read_parameter_file(file), "/robot/eye") == given


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/**: [", "as YAML: while parsing a flow node"),
        ("", "has no 'ros__parameters'"),
        ("max_gap: 2.0", "has no 'ros__parameters'"),
        ("ros__parameters: {max_gap: 2.0}", "has no 'ros__parameters'; needed: a node's name"),
        ("- a\n- b", "has no 'ros__parameters'"),
        ("\0", "as YAML: "),
    ],
)
def test_what_is_no_parameter_file_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ParameterFileError) as refused:
        read_parameter_file(file)
    assert f"'{file}'" in str(refused.value) and sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterFileError, match=r"nope\.yaml' cannot be read: no such file"):
        read_parameter_file(tmp_path / "nope.yaml")
    with pytest.raises(ParameterFileError, match="it is a folder"):
        read_parameter_file(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(FILES["wildcard"])
    assert read_parameter_file("~/mine.yaml")["/**"]["front.topic"] == "/a"


def test_a_file_for_another_node_is_named(tmp_path: Path) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text("/segmentation_node: {ros__parameters: {max_gap: 2.0}}")
    arguments = ["node", "--ros-args", "--params-file", str(file), "--params-file", str(CONFIG / "segment.yaml")]
    assert not list(files_for_others(arguments, "/segmentation_node"))
    (sentence,) = files_for_others(arguments, "/robot/segmentation_node")
    assert sentence.startswith(f"the parameter file '{file}' is for /segmentation_node, not for this node, /robot/seg")
