"""What replica_parity.py prints of cells and errors."""

import pytest
import replica_parity as parity

pytestmark = pytest.mark.one_backend

MODES = parity.MODES["tensorflow"]


def cells(value):
    return {
        f"{layer}|{ragged}|{normalize}|{mode}": value(layer, mode)
        for layer in parity.LAYERS
        for ragged in (False, True)
        for normalize in (False, True)
        for mode in MODES
    }


def test_a_way_to_run_without_any_result_is_a_sentence(capsys):
    def measured(layer, mode):
        if mode == "graph" and layer != "Keras alone":
            return {"loss": [1.0, 2.2]}
        return {"error": f"no {mode}"}

    one = cells(lambda *_: {"loss": [1.0, 2.0]})
    parity.print_table("two devices", "tensorflow", cells(measured), one)
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if line.startswith("| layer"))
    assert [cell.strip() for cell in head.split("|")[2:-1]] == [
        "graph, even",
        "graph, even, normalised",
        "graph, uneven",
        "graph, uneven, normalised",
    ]
    # 0.2 of 1 + 2.
    assert "| CenterLoss |" + 4 * " 6.7e-02 |" in lines
    assert "| Keras alone |" + 4 * " error 1 |" in lines
    assert "- No row ran with jit_compile: error 2." in lines
    assert "- Error 2: `no jit_compile`" in lines


def test_replicas_that_fail_alike_say_so_once():
    message = """Graph execution error:

Detected at node Placeholder_2 defined at (most recent call last):
  File "/home/me/train.py", line 10, in <module>

2 root error(s) found.
  (0) INVALID_ARGUMENT:  You must feed 'while/Placeholder_2' with dtype int32
\t [[{{node while/Placeholder_2}}]]
  (1) INVALID_ARGUMENT:  You must feed 'while/Placeholder_2' with dtype int32
"""
    assert parity.summary(RuntimeError(message)) == (
        "RuntimeError: You must feed '…' with dtype …"
    )
