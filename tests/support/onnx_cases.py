"""Networks around one operator each (onnx_model.py), and a few of several."""

import numpy as np

from support.onnx_model import Case, ints, number

_KERNEL = {"w": (4, 3, 3, 3), "b": (4,)}
_NORM = {"scale": (3,), "bias": (3,), "mean": (3,), "var": (3,)}

CONVOLUTIONS = {
    "Conv": Case("h = Conv <pads = [1,1,1,1]> (x, w, b)", _KERNEL),
    "Conv stride": Case("h = Conv <strides = [2,2], pads = [1,1,1,1]> (x, w)", _KERNEL),
    "Conv uneven": Case("h = Conv <strides = [2,1], pads = [0,1,2,1]> (x, w)", _KERNEL),
    "Conv dilated": Case(
        "h = Conv <dilations = [2,2], pads = [2,2,2,2]> (x, w)", _KERNEL
    ),
    "Conv groups": Case(
        "h = Conv <group = 3> (x, w, b)", {"w": (6, 1, 3, 3), "b": (6,)}
    ),
    "Conv same upper": Case(
        'h = Conv <auto_pad = "SAME_UPPER", strides = [2,2]> (x, w)',
        {"w": (4, 3, 2, 2)},
    ),
    "Conv same lower": Case(
        'h = Conv <auto_pad = "SAME_LOWER"> (x, w)', {"w": (4, 3, 4, 4)}
    ),
    "Conv valid": Case('h = Conv <auto_pad = "VALID"> (x, w)', {"w": (2, 3, 1, 5)}),
    "Conv 1-D": Case(
        "r = Reshape (x, s) h = Conv <pads = [1,1]> (r, w)",
        {"s": ints(0, 3, 36), "w": (2, 3, 3)},
    ),
    "Conv computed kernel": Case(
        "k = Transpose <perm = [3,2,0,1]> (w) h = Conv (x, k)", {"w": (3, 3, 3, 4)}
    ),
    "MaxPool": Case("h = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x)"),
    "MaxPool ceil": Case(
        "h = MaxPool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> (x)"
    ),
    "MaxPool padded": Case(
        "h = MaxPool <kernel_shape = [3,2], strides = [3,1], pads = [1,0,1,1]> (x)"
    ),
    "MaxPool dilated": Case(
        "h = MaxPool <kernel_shape = [2,2], dilations = [2,3]> (x)", opset=12
    ),
    "AveragePool": Case(
        "h = AveragePool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]> (x)"
    ),
    "AveragePool ceil": Case(
        "h = AveragePool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> (x)"
    ),
    "AveragePool padding counts": Case(
        "h = AveragePool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,0,0], "
        "count_include_pad = 1> (x)"
    ),
    "AveragePool same": Case(
        'h = AveragePool <kernel_shape = [2,3], auto_pad = "SAME_UPPER"> (x)'
    ),
    "GlobalAveragePool": Case("h = GlobalAveragePool (x)"),
    "GlobalMaxPool": Case("h = GlobalMaxPool (x)"),
    "Gemm": Case(
        "f = Flatten (x) h = Gemm <alpha = 0.5, beta = 2.0> (f, w, b)",
        {"w": (108, 5), "b": (5,)},
    ),
    "Gemm transposed": Case(
        "f = Flatten (x) h = Gemm <transB = 1> (f, w)", {"w": (5, 108)}
    ),
    "MatMul": Case("h = MatMul (x, w)", {"w": (6, 4)}),
    "MatMul left": Case("h = MatMul (w, x)", {"w": (4, 6)}),
    "MatMul both": Case("t = Transpose <perm = [0,1,3,2]> (x) h = MatMul (x, t)"),
    "Einsum": Case('h = Einsum <equation = "nchw, cd -> ndh"> (x, w)', {"w": (3, 4)}),
}

NORMS = {
    "BatchNormalization": Case(
        "h = BatchNormalization <epsilon = 0.001> (x, scale, bias, mean, var)", _NORM
    ),
    "BatchNormalization vector": Case(
        "f = Flatten (x) h = BatchNormalization (f, scale, bias, mean, var)",
        {name: (108,) for name in _NORM},
    ),
    "InstanceNormalization": Case(
        "h = InstanceNormalization <epsilon = 0.01> (x, scale, bias)", _NORM
    ),
    "LayerNormalization": Case(
        "h = LayerNormalization (x, scale, bias)", {"scale": (6,), "bias": (6,)}
    ),
    "LayerNormalization axes": Case(
        "h = LayerNormalization <axis = 2, epsilon = 0.1> (x, scale)", {"scale": (6, 6)}
    ),
    "GroupNormalization": Case(
        "c = Concat <axis = 1> (x, x) "
        "h = GroupNormalization <num_groups = 2> (c, scale, bias)",
        {"scale": (6,), "bias": (6,)},
    ),
    "GroupNormalization opset 18": Case(
        "c = Concat <axis = 1> (x, x) "
        "h = GroupNormalization <num_groups = 2> (c, scale, bias)",
        {"scale": (2,), "bias": (2,)},
        18,
    ),
    "RMSNormalization": Case(
        "h = RMSNormalization <epsilon = 0.01> (x, scale)", {"scale": (6,)}, 23
    ),
    "LpNormalization": Case("h = LpNormalization <axis = 1> (x)"),
    "LpNormalization 1": Case("h = LpNormalization <p = 1> (x)"),
    "LRN": Case("h = LRN <size = 3, alpha = 0.5, beta = 0.6, bias = 1.5> (x)"),
    "Softmax": Case("h = Softmax <axis = 1> (x)"),
    "Softmax last": Case("h = Softmax (x)"),
    "Softmax opset 11": Case("h = Softmax <axis = 2> (x)", opset=11),
    "LogSoftmax": Case("h = LogSoftmax (x)"),
    "LogSoftmax opset 9": Case("h = LogSoftmax (x)", opset=9),
}

_UNARY = (
    "Abs", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "LeakyRelu", "Mish", "Neg", "Relu", "Reciprocal", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh", "ThresholdedRelu",
)  # fmt: skip
_BINARY = ("Add", "Div", "Max", "Min", "Mul", "Sub", "Sum")
_COMPARED = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")

ELEMENTWISE = {
    **{name: Case(f"h = {name} (x)") for name in _UNARY},
    **{name: Case(f"h = {name} (x, w)", {"w": (3, 1, 6)}) for name in _BINARY},
    **{
        name: Case(f"c = {name} (x, w) h = Cast <to = 1> (c)", {"w": (3, 1, 1)})
        for name in _COMPARED
    },
    "Elu alpha": Case("h = Elu <alpha = 0.5> (x)"),
    "Gelu tanh": Case('h = Gelu <approximate = "tanh"> (x)'),
    "HardSigmoid numbers": Case("h = HardSigmoid <alpha = 0.3, beta = 0.4> (x)"),
    "LeakyRelu alpha": Case("h = LeakyRelu <alpha = 0.3> (x)"),
    "PRelu": Case("h = PRelu (x, slope)", {"slope": (3, 1, 1)}),
    "PRelu shared": Case("h = PRelu (x, slope)", {"slope": (1,)}),
    "Clip": Case("h = Clip (x, low, high)", {"low": number(-0.3), "high": number(0.5)}),
    "Clip above": Case("h = Clip (x, , high)", {"high": number(0.5)}),
    "Clip opset 7": Case("h = Clip <min = -0.2, max = 0.1> (x)", opset=7),
    "Log": Case("a = Abs (x) h = Log (a)"),
    "Sqrt": Case("a = Abs (x) h = Sqrt (a)"),
    "Pow": Case("h = Pow (x, e)", {"e": number(2)}),
    "Pow root": Case("a = Abs (x) h = Pow (a, e)", {"e": number(0.5)}),
    "Pow many": Case("a = Abs (x) h = Pow (a, w)", {"w": (3, 1, 1)}),
    "Mean": Case("a = Abs (x) h = Mean (x, a, w)", {"w": (1, 3, 1, 6)}),
    "Mod": Case("h = Mod <fmod = 1> (x, w)", {"w": number(0.3)}),
    "Where": Case(
        "p = Greater (x, z) h = Where (p, x, w)", {"z": number(0), "w": (3, 1, 1)}
    ),
    "And Or Xor Not": Case(
        "p = Greater (x, z) q = Less (x, w) a = And (p, q) o = Or (a, q) "
        "e = Xor (o, p) n = Not (e) h = Cast <to = 1> (n)",
        {"z": number(0), "w": (3, 1, 1)},
    ),
    "Cast half": Case("c = Cast <to = 10> (x) r = Relu (c) h = Cast <to = 1> (r)"),
    "CastLike": Case("i = Cast <to = 6> (x) h = CastLike (i, x)"),
    "Dropout": Case("h = Dropout (x)"),
    "Dropout opset 7": Case("h = Dropout <ratio = 0.4> (x)", opset=7),
    "Identity": Case("h = Identity (x)"),
    "a weight of Identity": Case("v = Identity (w) h = Mul (x, v)", {"w": (3, 1, 1)}),
}

_REDUCED = (
    "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

SHAPING = {
    **{name: Case(f"h = {name} (x, axes)", {"axes": ints(1, -1)}) for name in _REDUCED},
    **{
        f"{name} opset 11": Case(
            f"r = {name} <axes = [2,3], keepdims = 0> (x) "
            "h = Unsqueeze <axes = [2]> (r)",
            opset=11,
        )
        for name in ("ReduceMean", "ReduceSum", "ReduceL2")
    },
    "ReduceLogSum": Case("a = Abs (x) h = ReduceLogSum (a, s)", {"s": ints(2)}),
    "ReduceMean nothing": Case("h = ReduceMean <noop_with_empty_axes = 1> (x)"),
    "Concat": Case("a = Abs (x) h = Concat <axis = -1> (x, a, x)"),
    "Concat weight": Case(
        "s = Shape (x) n = Gather (s, zero) d = Concat <axis = 0> (n, rest) "
        "t = Expand (w, d) h = Concat <axis = 1> (t, x)",
        {"zero": ints(0), "rest": ints(1, 6, 6), "w": (1, 1, 1, 6)},
    ),
    "ConstantOfShape": Case(
        "s = Shape (x) o = ConstantOfShape <value = float[1] {1.5}> (s) h = Add (x, o)"
    ),
    "CumSum": Case("h = CumSum (x, a)", {"a": np.asarray(-2)}),
    "DepthToSpace": Case(
        "c = Concat <axis = 1> (x, x, x, x) h = DepthToSpace <blocksize = 2> (c)"
    ),
    "DepthToSpace CRD": Case(
        "c = Concat <axis = 1> (x, x, x, x) "
        'h = DepthToSpace <blocksize = 2, mode = "CRD"> (c)'
    ),
    "SpaceToDepth": Case("h = SpaceToDepth <blocksize = 3> (x)"),
    "Trilu": Case("h = Trilu (x)"),
    "Trilu lower": Case("h = Trilu <upper = 0> (x, k)", {"k": np.asarray(-1)}),
    "Expand": Case("p = GlobalMaxPool (x) h = Expand (p, s)", {"s": ints(1, 2, 5)}),
    "Flatten": Case("f = Flatten <axis = -3> (x) h = Relu (f)"),
    "Gather": Case("h = Gather <axis = 3> (x, i)", {"i": ints(4, -1, 0)}),
    "Gather one": Case("h = Gather <axis = 2> (x, i)", {"i": np.asarray(2)}),
    "Gather of a table": Case(
        "i = Cast <to = 7> (x) p = Abs (i) t = Gather (w, p) h = Flatten (t)",
        {"w": (5, 2)},
    ),
    "Pad": Case(
        "h = Pad (x, p, v)", {"p": ints(0, 0, 1, 2, 0, 1, 0, -1), "v": number(0.5)}
    ),
    "Pad reflect": Case(
        'h = Pad <mode = "reflect"> (x, p)', {"p": ints(*(0, 0, 2, 1) * 2)}
    ),
    "Pad edge axes": Case(
        'h = Pad <mode = "edge"> (x, p, , a)', {"p": ints(1, 2, 0, 3), "a": ints(2, -1)}
    ),
    "Pad opset 7": Case("h = Pad <pads = [0,0,1,1,0,0,1,1]> (x)", opset=7),
    "Range": Case(
        "r = Range (a, b, s) h = Add (x, r)",
        {"a": number(0.0), "b": number(3.0), "s": number(0.5)},
    ),
    "Reshape": Case("h = Reshape (x, s)", {"s": ints(0, 2, -1)}),
    "Reshape by shape": Case(
        "s = Shape (x) n = Slice (s, zero, one) c = Slice (s, one, end) "
        "p = ReduceProd <keepdims = 1> (c) d = Concat <axis = 0> (n, p) "
        "r = Reshape (x, d) h = Relu (r)",
        {"zero": ints(0), "one": ints(1), "end": ints(4)},
    ),
    "ScatterND": Case(
        "t = ScatterND (w, i, u) h = Mul (x, t)",
        {"w": (3, 6, 6), "i": np.asarray([[1, 4], [0, 2]]), "u": (2, 6)},
    ),
    "Size": Case(
        "n = Shape <start = 1, end = 3> (x) k = Size (n) f = Cast <to = 1> (k) "
        "h = Div (x, f)"
    ),
    "Slice": Case(
        "h = Slice (x, a, b, axes, steps)",
        {
            "a": ints(-1, 1),
            "b": ints(-99, 5),
            "axes": ints(3, -2),
            "steps": ints(-2, 2),
        },
    ),
    "Slice opset 9": Case(
        "h = Slice <axes = [1,3], starts = [1,0], ends = [9,-1]> (x)", opset=9
    ),
    "Split": Case(
        "a, b = Split <axis = 1> (x, s) h = Concat <axis = 1> (b, a)", {"s": ints(1, 2)}
    ),
    "Split by number": Case("a, h = Split <axis = 3, num_outputs = 2> (x)"),
    "Split opset 11": Case("h, b = Split <axis = 2, split = [4,2]> (x)", opset=11),
    "Squeeze": Case(
        "a = GlobalAveragePool (x) s = Squeeze (a, axes) u = Unsqueeze (s, back) "
        "h = Mul (x, u)",
        {"axes": ints(2, 3), "back": ints(-1, -2)},
    ),
    "Tile": Case("h = Tile (x, r)", {"r": ints(1, 2, 1, 3)}),
    "Transpose": Case("t = Transpose <perm = [0,2,3,1]> (x) h = Tanh (t)"),
    "Transpose twice": Case(
        "t = Transpose <perm = [0,3,1,2]> (x) u = Mul (t, w) "
        "v = Transpose <perm = [0,2,3,1]> (u) h = Add (v, x)",
        {"w": (6, 3, 6)},
    ),
}

# Parts of networks, for what the operators do to each other.
NETWORKS = {
    "squeeze and excitation": Case(
        "c = Conv <pads = [1,1,1,1]> (x, w, b) p = GlobalAveragePool (c) "
        "f = Flatten (p) g = Gemm <transB = 1> (f, w1) r = Relu (g) "
        "e = Gemm <transB = 1> (r, w2) s = Sigmoid (e) u = Reshape (s, d) "
        "h = Mul (c, u)",
        {**_KERNEL, "w1": (2, 4), "w2": (4, 2), "d": ints(-1, 4, 1, 1)},
    ),
    "attention": Case(
        "r = Reshape (x, d) t = Transpose <perm = [0,2,1]> (r) q = MatMul (t, wq) "
        "a = Add (q, bias) k = MatMul (t, wk) z = Transpose <perm = [0,2,1]> (k) "
        "l = MatMul (a, z) m = Mul (l, s) p = Softmax <axis = -1> (m) "
        "o = MatMul (p, t) n = LayerNormalization (o, g, c) h = Add (t, n)",
        {
            "d": ints(0, 3, 36), "wq": (3, 3), "bias": (3,), "wk": (3, 3),
            "s": number(0.5), "g": (3,), "c": (3,),
        },
    ),
    "vector times maps": Case(
        "c = Conv (x, w, b) g = GlobalMaxPool (c) f = Flatten (g) v = Reshape (f, s) "
        "a = Add (c, v) k = Relu (a) h = Mul (k, c)",
        {**_KERNEL, "s": ints(-1, 1, 1, 4)},
    ),
    "pictures normalised inside": Case(
        "a = Sub (x, m) b = Div (a, s) h = Conv (b, w)",
        {"m": (3, 1, 1), "s": np.full((3, 1, 1), 2, np.float32), "w": (4, 3, 3, 3)},
    ),
    "map flattened channel first": Case(
        "c = Conv (x, w, b) r = Relu (c) f = Flatten (r) h = Gemm <transB = 1> (f, v)",
        {**_KERNEL, "v": (3, 64)},
    ),
}  # fmt: skip

ALL = CONVOLUTIONS | NORMS | ELEMENTWISE | SHAPING | NETWORKS
