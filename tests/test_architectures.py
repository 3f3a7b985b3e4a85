"""The family as data: counts, labels, sizes and errors, checked without Keras.

Every figure is the paper's, the course's or torchvision's, or was derived by hand as written beside
it; none was copied from the code under test.
"""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise

import pytest
from kit import refusal

from resnet_keras.architectures import (
    BASIC,
    BN_AFTER_ADDITION,
    BOTTLENECK,
    CIFAR_STEM,
    FAMILY,
    NETWORKS,
    NO_SHORTCUT,
    OPTION_A,
    OPTION_B,
    OPTION_C,
    RESNET18,
    RESNET20,
    RESNET34,
    RESNET50,
    RESNET101,
    RESNET152,
    SHORTCUT_OPTIONS,
    Convolution,
    LayerDefaults,
    Shortcut,
    Unit,
    find,
    list_models,
)

# name: (trainable, total). The difference is BN's moving mean and variance, 2 for every filter.
#
# ImageNet residual nets: trainable as in every torch implementation. A plain net lacks the three
# projections, 64*128 + 128*256 + 256*512 weights and 2 * (128 + 256 + 512) gammas and betas; the
# statistics shrink by as many as the latter.
# CIFAR nets of 6n+2 layers, plain or option A: 9*3*16 for conv1; 9*16*16*2n,
# 9*16*32 + 9*32*32*(2n-1) and 9*32*64 + 9*64*64*(2n-1) for the stages; 2*(16 + 2n*(16+32+64))
# gammas and betas, and as many statistics; 65*10 for the classifier.
# v1.5 moves a stride and no weight. The course's counts are those of its own summary.
PARAMETERS = {
    "resnet18": (11_689_512, 11_699_112),
    "resnet34": (21_797_672, 21_814_696),
    "resnet50": (25_557_032, 25_610_152),
    "resnet101": (44_549_160, 44_654_504),
    "resnet152": (60_192_808, 60_344_232),
    "plain18": (11_515_688, 11_523_496),
    "plain34": (21_623_848, 21_639_080),
    "resnet8": (75_290, 75_770),
    "resnet14": (172_506, 173_434),
    "resnet20": (269_722, 271_098),
    "resnet32": (464_154, 466_426),
    "resnet44": (658_586, 661_754),
    "resnet56": (853_018, 857_082),
    "resnet110": (1_727_962, 1_736_058),
    "plain20": (269_722, 271_098),
    "plain32": (464_154, 466_426),
    "plain44": (658_586, 661_754),
    "plain56": (853_018, 857_082),
    "plain110": (1_727_962, 1_736_058),
    "resnet50v1.5": (25_557_032, 25_610_152),
    "resnet101v1.5": (44_549_160, 44_654_504),
    "resnet152v1.5": (60_192_808, 60_344_232),
    "resnet50-course": (23_600_006 - 53_120, 23_600_006),
    # 6n+2 as above, n = 200.
    "resnet1202": (19_421_274, 19_510_906),
    # 9n+2 layers: 9*3*16 for conv1; for n bottlenecks of stage filters f after i channels
    # i*f + 9*f*f + f*4f, then n-1 times 4f*f + 9*f*f + f*4f; projections 16*64 + 64*128 + 128*256;
    # 257*10 for the classifier; gammas and betas of every convolution's output.
    "resnet164": (1_704_154, 1_729_274),
    "resnet1001": (10_328_602, 10_478_714),
    # Pre-activation: as many normalised channels in basic units. In bottlenecks the projections'
    # 448 channels lose theirs, while every unit normalises its input instead of its output.
    "preresnet110": (1_727_962, 1_736_058),
    "preresnet164": (1_703_258, 1_727_482),
    "preresnet1001": (10_327_706, 10_476_922),
    "preresnet200": (64_666_152, 64_834_472),
    # [3, table 1] and its CIFAR nets, with the projections' batch normalisations.
    "resnext50-32x4d": (25_028_904, 25_097_128),
    "resnext29-8x64d": (34_426_698, 34_484_170),
    # Fitnet 4's convolutions, 3x3: 3 to 32, then the plain ones 32*48 + 48*80 + 80*128, and twice,
    # for branch and gate, 2*32*32 + 48*48 + 5*80*80 + 5*128*128; a bias for every filter; 129*10.
    "highway19": (2_274_186, 2_274_186),
    # As torchvision has it.
    "densenet121": (7_978_856, 8_062_504),
    # [5, table 2] prints 0.8, 15.3 and 25.6 million; to the last digit as pytorchcv has them. The
    # statistics, for m channels at a block's start and n layers: sum of m + k*i and 4k over the
    # layers, m + k*n at each transition and at the end, and these twice.
    "densenet100-k12": (769_162, 793_150),
    "densenet250-k24": (15_324_406, 15_582_382),
    "densenet190-k40": (25_624_430, 25_881_390),
}

# Multiply-adds as printed in [1, table 1]; v1.5 as its publishers print it.
MULTIPLY_ADDS = {
    "resnet18": 1.8e9,
    "resnet34": 3.6e9,
    "resnet50": 3.8e9,
    "resnet101": 7.6e9,
    "resnet152": 11.3e9,
    "resnet50v1.5": 4.1e9,
    "densenet121": 2.83e9,  # torchvision's
}

# Layers of the networks whose names do not end in them.
DEPTHS = {
    "resnet50v1.5": 50,
    "resnet101v1.5": 101,
    "resnet152v1.5": 152,
    "resnet50-course": 50,
    "resnext50-32x4d": 50,
    "resnext29-8x64d": 29,
    "highway19": 18,  # without Fitnet's fully connected layer
    "densenet100-k12": 100,
    "densenet250-k24": 250,
    "densenet190-k40": 190,
}


def test_importing_architectures_imports_no_framework():
    program = (
        "import sys, resnet_keras.architectures\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'torch', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_network_has_its_parameters_in_the_table():
    assert set(PARAMETERS) == set(NETWORKS)


@pytest.mark.parametrize("network", PARAMETERS)
def test_parameters(network):
    count = NETWORKS[network].parameters()
    assert (count.trainable, count.total) == PARAMETERS[network]
    assert count.non_trainable == count.total - count.trainable


@pytest.mark.parametrize(
    ("network", "millions"),
    [
        ("resnet20", "0.27"),
        ("resnet32", "0.46"),
        ("resnet44", "0.66"),
        ("resnet56", "0.85"),
        ("resnet110", "1.7"),
        ("resnet1202", "19.4"),
        ("resnet164", "1.7"),
        ("preresnet164", "1.7"),
        ("resnet1001", "10.3"),
        ("preresnet1001", "10.3"),
        ("highway19", "2.3"),
        ("densenet100-k12", "0.8"),
        ("densenet250-k24", "15.3"),
        ("densenet190-k40", "25.6"),
    ],
)
def test_cifar_parameters_round_to_the_published_ones(network, millions):
    decimals = len(millions.split(".")[1])
    assert f"{NETWORKS[network].parameters().trainable / 1e6:.{decimals}f}" == millions


@pytest.mark.parametrize(("network", "published"), MULTIPLY_ADDS.items())
def test_multiply_adds_are_the_published_ones(network, published):
    assert NETWORKS[network].multiply_adds() == pytest.approx(published, rel=0.03)


def test_resnet34_costs_18_percent_of_vgg19():
    # The paper counts 3.6e9 for the plain and the residual net alike.
    for network in ("resnet34", "plain34"):
        assert NETWORKS[network].multiply_adds() / 19.6e9 == pytest.approx(0.18, abs=0.01)


def test_multiply_adds_by_hand():
    # conv1 27*16, then six 3x3 convolutions at 32x32, at 16x16 and at 8x8; fc 64*10.
    stage2 = 6 * 9 * 16 * 16 * 32**2
    stage3 = (9 * 16 * 32 + 5 * 9 * 32 * 32) * 16**2
    stage4 = (9 * 32 * 64 + 5 * 9 * 64 * 64) * 8**2
    expected = 27 * 16 * 32**2 + stage2 + stage3 + stage4 + 640
    assert RESNET20.multiply_adds() == expected
    assert RESNET20.multiply_adds(classes=100) == expected + 64 * 90


def test_multiply_adds_grow_with_the_image():
    # All but the classifier's 512,000 are proportional to the area, 32 dividing both sides.
    fc = 512 * 1000
    at_224, at_448 = RESNET18.multiply_adds(), RESNET18.multiply_adds(input_size=448)
    assert at_448 - fc == 4 * (at_224 - fc)


def test_classes_and_size_of_the_classifier():
    assert RESNET50.parameters(classes=10).total == PARAMETERS["resnet50"][1] - 990 * 2049
    course = NETWORKS["resnet50-course"]
    assert course.head_features(64) == 2048
    # At 224 the course's last map is 7x7; its 2x2 pool leaves 3x3, flattened.
    assert course.head_features(224) == 9 * 2048
    assert course.parameters(input_size=224).total == 23_600_006 + 8 * 2048 * 6


@pytest.mark.parametrize("network", NETWORKS)
def test_depth_is_the_one_in_the_name(network):
    named = DEPTHS.get(network) or int(network.lstrip("abcdefghijklmnopqrstuvwxyz"))
    assert NETWORKS[network].depth == named


# A adds nothing to the plain net. B adds the projections where the shape changes, C one more in
# every other unit: sums of in*out + 2*out trainable and 2*out further parameters.
@pytest.mark.parametrize(
    ("architecture", "plain", "option_b", "option_c"),
    [
        (RESNET18, (11_515_688, 11_523_496), (11_689_512, 11_699_112), (12_043_816, 12_055_464)),
        (RESNET34, (21_623_848, 21_639_080), (21_797_672, 21_814_696), (22_716_840, 22_739_624)),
        (RESNET50, (22_780_456, 22_825_896), (25_557_032, 25_610_152), (40_128_552, 40_204_200)),
        (RESNET20, (269_722, 271_098), (272_474, 274_042), (283_962, 286_010)),
    ],
    ids=["resnet18", "resnet34", "resnet50", "resnet20"],
)
def test_parameters_of_shortcut_options(architecture, plain, option_b, option_c):
    def count(shortcut):
        parameters = replace(architecture, shortcut=shortcut).parameters()
        return parameters.trainable, parameters.total

    assert count(NO_SHORTCUT) == plain
    assert count(OPTION_A) == plain
    assert count(OPTION_B) == option_b
    assert count(OPTION_C) == option_c
    assert plain < option_b < option_c


def test_shortcut_kinds_of_resnet34():
    def kinds(shortcut):
        return [unit.shortcut for unit in replace(RESNET34, shortcut=shortcut).units()]

    # The basic net's shape changes at the start of stages 3, 4 and 5: units 3, 7 and 13.
    changes = [index in (3, 7, 13) for index in range(16)]
    assert kinds(OPTION_A) == ["zero-padded" if change else "identity" for change in changes]
    assert kinds(OPTION_B) == ["projection" if change else "identity" for change in changes]
    assert kinds(OPTION_C) == ["projection"] * 16
    assert kinds(NO_SHORTCUT) == ["none"] * 16


def test_bottlenecks_change_shape_in_stage_2_without_a_stride():
    first = next(RESNET50.units())
    assert (first.stride, first.in_filters, first.filters) == (1, 64, (64, 64, 256))
    assert first.shortcut == "projection"


@pytest.mark.parametrize("network", NETWORKS)
def test_units_form_a_chain(network):
    architecture = NETWORKS[network]
    units = list(architecture.units())
    assert len(units) == sum(architecture.blocks)
    assert units[0].in_filters == architecture.stem.filters
    for before, after in pairwise(units):
        assert after.in_filters == before.out_filters
        # Only the first unit of a stage after the first has a stride; Fitnet's second stage none.
        opens = after.stage > before.stage and after.stage not in architecture.unstrided_stages
        assert after.stride == (2 if opens else 1)
    assert units[-1].out_filters == architecture.out_filters
    assert len({(unit.stage, unit.block) for unit in units}) == len(units)


def labels(architecture, stage):
    return [unit.block for unit in architecture.units() if unit.stage == stage]


@pytest.mark.parametrize(
    ("architecture", "output_stride", "strides", "dilations"),
    [
        # Of the 3x3s in the first and second unit of every stage.
        (RESNET50, 32, (4, 8, 16, 32), [(1, 1), (1, 1), (1, 1), (1, 1)]),
        (RESNET50, 16, (4, 8, 16, 16), [(1, 1), (1, 1), (1, 1), (2, 2)]),
        (RESNET50, 8, (4, 8, 8, 8), [(1, 1), (1, 1), (2, 2), (4, 4)]),
        (RESNET50, 4, (4, 4, 4, 4), [(1, 1), (2, 2), (4, 4), (8, 8)]),
        (NETWORKS["resnet50v1.5"], 8, (4, 8, 8, 8), [(1, 1), (1, 1), (1, 2), (2, 4)]),
        (NETWORKS["resnext50-32x4d"], 16, (4, 8, 16, 16), [(1, 1), (1, 1), (1, 1), (1, 2)]),
        (NETWORKS["resnet164"], 1, (1, 1, 1), [(1, 1), (2, 2), (4, 4)]),
    ],
)
def test_stages_beyond_the_output_stride_are_dilated(
    architecture, output_stride, strides, dilations
):
    dilated = replace(architecture, output_stride=output_stride)
    assert dilated.strides == strides and dilated.total_stride == output_stride
    assert dilated.undilated_strides == architecture.strides
    units = list(dilated.units())
    found = [
        tuple(unit.branch[1].dilation for unit in units if unit.stage == stage)[:2]
        for stage in range(2, 2 + len(strides))
    ]
    assert found == dilations
    reached = architecture.stem.total_stride
    for unit in units:
        reached *= unit.stride
        assert reached == strides[unit.stage - 2]


def test_a_basic_unit_keeps_the_dilation_of_the_convolution_that_lost_its_stride():
    units = {
        unit.name: tuple(convolution.dilation for convolution in unit.branch)
        for unit in replace(RESNET18, output_stride=8).units()
    }
    assert {units["2a"], units["2b"], units["3a"], units["3b"]} == {(1, 1)}
    assert (units["4a"], units["4b"], units["5a"], units["5b"]) == ((1, 2), (2, 2), (2, 4), (4, 4))


@pytest.mark.parametrize("architecture", [RESNET20, RESNET34, RESNET50, NETWORKS["preresnet164"]])
def test_dilation_changes_no_weights_and_no_shortcuts(architecture):
    for channels in (architecture.filters, len(architecture.filters) * (16,)):
        plain = replace(architecture, filters=channels)
        dilated = replace(plain, output_stride=plain.strides[0])
        assert dilated.parameters() == plain.parameters()
        assert [unit.shortcut for unit in dilated.units()] == [
            unit.shortcut for unit in plain.units()
        ]


def test_costs_and_sizes_of_a_dilated_network():
    # conv1 27*16, then six 3x3 convolutions for each stage, all at 32x32; fc 64*10.
    stages = 6 * 9 * 16 * 16 + 9 * 16 * 32 + 5 * 9 * 32 * 32 + 9 * 32 * 64 + 5 * 9 * 64 * 64
    dilated = replace(RESNET20, output_stride=1)
    assert dilated.multiply_adds() == (27 * 16 + stages) * 32**2 + 640
    assert dilated.map_size(32) == 32 and dilated.minimum_input_size == 1
    assert replace(RESNET50, output_stride=8).map_size(65) == 9


@pytest.mark.parametrize(
    ("architecture", "output_stride", "accepted"),
    [(RESNET50, 64, "4, 8, 16, 32"), (RESNET50, 12, "4, 8, 16, 32"), (RESNET20, 8, "1, 2, 4")],
)
def test_output_strides_that_no_stage_has_are_refused(architecture, output_stride, accepted):
    error = refusal(replace, architecture, output_stride=output_stride)
    assert (error.received, error.accepted) == (str(output_stride), accepted)


def test_labels_are_letters_at_50_layers():
    assert labels(RESNET50, 2) == list("abc")
    assert labels(RESNET50, 3) == list("abcd")
    assert labels(RESNET50, 4) == list("abcdef")
    assert labels(RESNET50, 5) == list("abc")


@pytest.mark.parametrize(("architecture", "blocks"), [(RESNET101, (4, 23)), (RESNET152, (8, 36))])
def test_labels_of_the_caffe_release_at_101_and_152_layers(architecture, blocks):
    assert labels(architecture, 2) == list("abc")
    assert labels(architecture, 5) == list("abc")
    for stage, count in zip((3, 4), blocks, strict=True):
        assert labels(architecture, stage) == ["a"] + [f"b{index}" for index in range(1, count)]


def test_labels_count_where_the_alphabet_ends():
    def of(count):
        return labels(replace(RESNET20, blocks=(count, 1, 1)), 2)

    assert of(26) == list("abcdefghijklmnopqrstuvwxyz")
    assert of(27) == ["a"] + [f"b{index}" for index in range(1, 27)]


@pytest.mark.parametrize("network", NETWORKS)
def test_minimum_input_size(network):
    # The course's unpadded pool and 2x2 window need 37 pixels: 37, 19, 9, 5, 3, 2.
    architecture = NETWORKS[network]
    expected = {64: 37, 224: 32, 32: 4}[architecture.input_size]
    assert architecture.minimum_input_size == expected
    assert architecture.map_size(expected) >= (architecture.head_window or 1)


def test_course_map_is_too_small_below_37():
    course = NETWORKS["resnet50-course"]
    assert course.map_size(37) == 2
    assert course.map_size(36) == 1


@pytest.mark.parametrize(
    ("architecture", "size", "stem", "last"),
    [(RESNET50, 224, (112, 56), 7), (RESNET50, 65, (33, 17), 3), (RESNET20, 32, (32, 32), 8)],
)
def test_map_sizes(architecture, size, stem, last):
    assert architecture.stem_map_sizes(size) == stem
    assert architecture.map_size(size) == last


def test_total_stride():
    assert RESNET50.total_stride == 32
    assert RESNET20.total_stride == 4


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        (RESNET50, "blocks"),
        (RESNET50.stem, "filters"),
        (RESNET50.unit, "stride_at"),
        (RESNET50.shortcut, "elsewhere"),
        (RESNET50.defaults, "bn_epsilon"),
        (RESNET50.preprocessing, "mean"),
        (next(RESNET50.units()), "stride"),
    ],
)
def test_values_are_frozen(value, attribute):
    with pytest.raises(FrozenInstanceError):
        setattr(value, attribute, None)


def test_equal_architectures_hash_alike():
    assert hash(replace(RESNET50)) == hash(RESNET50)
    assert replace(RESNET50, shortcut=OPTION_C) != RESNET50


def test_zero_init_last_gamma_needs_shortcuts():
    defaults = LayerDefaults(zero_init_last_gamma=True)
    assert replace(RESNET20, defaults=defaults).defaults.zero_init_last_gamma
    assert (
        "zero_init_last_gamma" in refusal(replace, NETWORKS["plain20"], defaults=defaults).problem
    )
    # An equal shortcut, not only the same object, makes a network plain.
    error = refusal(replace, RESNET20, defaults=defaults, shortcut=Shortcut("none", "none"))
    assert "zero_init_last_gamma" in error.problem


@pytest.mark.parametrize("blocks", [(), (3, 3), (3, 3, 0), (3, 3, -1), (3, 3, 3, 3)])
def test_blocks_must_match_filters(blocks):
    assert f"blocks={blocks}" in refusal(replace, RESNET20, blocks=blocks).received


@pytest.mark.parametrize(
    ("received", "suggested"),
    [
        ("resnet5O", "resnet50"),
        ("ResNet50", "resnet50"),
        ("resnet50v15", "resnet50v1.5"),
        ("resnet56-dropout-shorcut", "resnet56-dropout-shortcut"),
    ],
)
def test_unknown_network_suggests_the_nearest(received, suggested):
    error = refusal(find, received)
    assert error.received == repr(received)
    assert error.accepted.startswith("did you mean ") and suggested in error.accepted


def test_unknown_network_with_nothing_near_lists_all():
    assert refusal(find, "vgg").accepted.startswith(", ".join(NETWORKS))


def test_a_variant_goes_by_its_networks_name_and_its_own():
    found = find("resnet110-bn-after-addition")
    assert found.unit.ordering == BN_AFTER_ADDITION
    assert found == replace(NETWORKS["resnet110"], unit=found.unit)
    assert find("resnet50-course-without-bn").defaults.normalized is False
    assert refusal(find, "plain20-constant-scaling").received == "a plain network"


def test_find_gives_the_table_s_architecture():
    assert find("resnet50") is RESNET50


@pytest.mark.parametrize("option", "ABC")
def test_find_with_a_shortcut_option(option):
    assert find("resnet34", option) == replace(RESNET34, shortcut=SHORTCUT_OPTIONS[option])


def test_find_refuses_unknown_options_and_options_of_plain_networks():
    error = refusal(find, "resnet34", "D")
    assert (error.received, error.accepted) == ("'D'", "A, B, C")
    assert "'plain34'" in refusal(find, "plain34", "A").received


def test_list_models():
    assert list_models() == list(NETWORKS)
    assert {"resnet50", "resnet50v1.5", "resnet50-course"} <= set(list_models("*50*"))
    assert all("50" in name for name in list_models("*50*"))
    assert list_models("plain?8") == ["plain18"]
    assert list_models("vgg*") == []


def test_bottlenecks_are_narrow_at_their_ends_and_grouped_in_their_middle():
    unit = Unit((1, 1, 4), kernel_size=5, stride_at=1, groups=2)
    assert unit.branch(16, (8, 8, 32), stride=2, dilations=(1, 1, 3)) == (
        Convolution(1, 16, 8),
        Convolution(5, 8, 8, stride=2, groups=2),
        Convolution(1, 8, 32, dilation=3),
    )
    assert unit.branch(16, (8, 8)) == (Convolution(5, 16, 8), Convolution(5, 8, 8))
    assert "4" in refusal(unit.branch, 16, (8, 8, 8, 8)).received


def test_parts_of_the_named_networks():
    assert RESNET20.stem == CIFAR_STEM
    assert RESNET34.unit == BASIC
    assert RESNET152.unit == BOTTLENECK
    assert [unit.stride_at for unit in (BOTTLENECK, NETWORKS["resnet50v1.5"].unit)] == [0, 1]


def test_every_network_stands_in_one_group():
    names = [name for group in FAMILY for name in group.networks]
    assert len(names) == len(set(names)) == len(NETWORKS)
    assert all(group.title and group.purpose for group in FAMILY)
