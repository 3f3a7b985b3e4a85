"""The decision about precision, as a table of machines."""

from pathlib import Path

import keras
import kit
import pytest

from resnet_keras.training.precision import Machine, decide, describe_machine

BF16_CPU = frozenset({"sse2", "avx512f", "avx512_bf16"})
AMX_CPU = frozenset({"avx512f", "amx_bf16", "amx_tile"})
OLD_CPU = frozenset({"sse2", "avx2", "avx512f"})


def gpu(*capabilities, backend="tensorflow"):
    return Machine(backend, "gpu", capabilities)


@pytest.mark.parametrize(
    ("machine", "policy", "jit_compile", "words"),
    [
        (gpu((9, 0)), "mixed_bfloat16", True, "9.0"),
        (gpu((8, 0)), "mixed_bfloat16", True, "8.0"),
        (gpu((12, 0)), "mixed_bfloat16", True, "12.0"),
        (gpu((7, 5)), "mixed_float16", True, "7.5"),
        (gpu((7, 0)), "mixed_float16", True, "7.0"),
        (gpu((6, 1)), "float32", True, "6.1"),
        (gpu((9, 0), (9, 0)), "mixed_bfloat16", "auto", "9.0"),
        (gpu((9, 0), (7, 5)), "mixed_float16", "auto", "7.5"),
        (gpu(None), "float32", "auto", "compute capability"),
        (gpu((9, 0), None), "float32", "auto", "compute capability"),
        (gpu((9, 0), backend="jax"), "mixed_bfloat16", "auto", "9.0"),
        (Machine("tensorflow", cpu_features=BF16_CPU), "mixed_bfloat16", False, "AVX512-BF16"),
        (Machine("tensorflow", cpu_features=AMX_CPU), "mixed_bfloat16", False, "AMX"),
        (Machine("tensorflow", cpu_features=OLD_CPU), "float32", False, "AVX512-BF16"),
        (Machine("tensorflow"), "float32", False, "features"),
        (Machine("jax", cpu_features=BF16_CPU), "mixed_bfloat16", "auto", "AVX512-BF16"),
        (Machine("jax", "tpu"), "mixed_bfloat16", "auto", "TPU"),
        (Machine("tensorflow", "tpu"), "mixed_bfloat16", "auto", "TPU"),
        (Machine("torch"), "float32", False, "features"),
    ],
)
def test_decisions(machine, policy, jit_compile, words):
    decision = decide(machine)
    assert (decision.policy, decision.jit_compile) == (policy, jit_compile)
    assert decision.loss_scaling == (policy == "mixed_float16")
    assert words in decision.reason
    line = str(decision)
    assert line.startswith(policy) and words in line and "\n" not in line


def test_a_decision_is_told_with_its_reason_loss_scaling_and_xla():
    line = str(decide(gpu((7, 5))))
    assert all(word in line for word in ("mixed_float16", "loss scaling", "7.5", "XLA on"))
    line = str(decide(Machine("tensorflow", cpu_features=BF16_CPU)))
    assert all(word in line for word in ("mixed_bfloat16", "AVX512-BF16", "XLA off"))
    assert "loss scaling" not in line


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("machine", [gpu((9, 0)), Machine("tensorflow")])
def test_a_request_wins(machine, policy):
    decision = decide(machine, policy)
    best = decide(machine)
    assert decision.policy == policy
    assert decision.jit_compile == best.jit_compile
    assert "requested" in decision.reason
    assert (best.policy in decision.reason) == (policy != best.policy)


def test_an_unknown_request():
    error = kit.refusal(decide, Machine("tensorflow"), "bf16")
    assert error.received == "'bf16'"
    assert all(word in error.accepted for word in ("auto", "float32", "mixed_bfloat16"))


def test_this_machine():
    machine = describe_machine()
    assert machine.backend == keras.backend.backend()
    keras.dtype_policies.get(decide(machine).policy)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        assert ("avx512_bf16" in machine.cpu_features) == (
            "avx512_bf16" in cpuinfo.read_text(encoding="utf-8")
        )
