"""Pickles of PyTorch and Python 2 are read, and nothing that a pickle says is ever run."""

import argparse
import collections
import contextlib
import copyreg
import os
import pickle
import re
import struct
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gridpose.core import InputError, MissingError
from gridpose.unpickle import Global, Opaque, load, loads

PUBLISHED = Path(__file__).parent / "data" / "published_gridconv.pth.tar"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}

# What Python tells of itself (sys.addaudithook) that no reader of data ever does.
_FORBIDDEN = (
    "os.",
    "exec",
    "compile",
    "subprocess",
    "import",
    "pickle",
    "socket",
    "ctypes",
    "code",
)
_events: list[str] | None = None


def _hook(event, arguments):
    if _events is not None and event.startswith(_FORBIDDEN):
        _events.append(f"{event} {arguments}")


sys.addaudithook(_hook)


def watched(data: bytes, name: str = "evil.pth"):
    """``loads`` under watch: no code, no import, no process."""
    global _events
    b"x".decode("raw-unicode-escape")  # codecs are imported when first used
    _events = []
    try:
        return loads(data, name)
    finally:
        seen, _events = _events, None
        assert seen == []


def refusal(data: bytes) -> str:
    """The one sentence that a bad file is refused with."""
    with pytest.raises(InputError) as caught:
        watched(data)
    text = str(caught.value)
    assert text.startswith("evil.pth: ")
    assert "\n" not in text
    return text


class Exploit:
    """Pickled, it is a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


class Optimizer:
    def __init__(self, state):
        self.state = state


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def touch(canary: Path) -> Exploit:
    """A call of os.system that leaves a trace."""
    return Exploit(os.system, f"touch {canary}")


def zip_form(value, tmp_path: Path) -> bytes:
    torch.save(value, tmp_path / "zip.pth")
    return (tmp_path / "zip.pth").read_bytes()


def legacy_form(value, tmp_path: Path) -> bytes:
    torch.save(value, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    return (tmp_path / "legacy.pth").read_bytes()


def bare_form(value, tmp_path: Path) -> bytes:
    return pickle.dumps(value)


FORMS = [bare_form, legacy_form, zip_form]


# Nothing runs


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_refused_by_name_in_every_protocol(protocol, canary):
    data = pickle.dumps(touch(canary), protocol)
    assert f"call {os.name}.system" in refusal(data)
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists()  # the exploit is a real one


WRAPPINGS = {
    "state dict": lambda e: {"epoch": 1, "state_dict": {"w": np.zeros(2), "b": e}},
    "optimizer": lambda e: {"state_dict": {}, "optimizer": Optimizer({"step": [e]})},
    "list of tuples": lambda e: [("a", e)],
    "object array": lambda e: np.array([1, e], object),
    "array in a tuple": lambda e: (np.zeros(3), np.array(e, object)),
    "ordered dict": lambda e: collections.OrderedDict(a=e),
    "default dict": lambda e: collections.defaultdict(list, a=e),
    "metadata of a state dict": lambda e: with_metadata(e),
}


def with_metadata(value):
    state = collections.OrderedDict(w=np.zeros(1))
    state._metadata = value
    return state


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_a_call_is_found_wherever_it_hides(form, wrap, canary, tmp_path):
    data = form(wrap(touch(canary)), tmp_path)
    assert f"call {os.name}.system" in refusal(data)
    assert not canary.exists()
    if form is bare_form:
        pickle.loads(data)
    else:
        torch.load(_file(tmp_path, data), weights_only=False)
    assert canary.exists()


def _file(folder: Path, data: bytes) -> Path:
    file = folder / "evil.pth"
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("stage", range(5), ids=["magic", "version", "system", "object", "keys"])
def test_every_pickle_of_the_legacy_form_is_watched(stage, canary):
    parts = [LEGACY_MAGIC, 1001, SYSTEM, {}, []]
    assert loads(b"".join(pickle.dumps(part, 2) for part in parts), "good") == {}
    parts[stage] = touch(canary)
    assert f"call {os.name}.system" in refusal(b"".join(pickle.dumps(part, 2) for part in parts))
    assert not canary.exists()


_GADGETS = """
    os.system os.popen os.execv posix.system nt.system pty.spawn builtins.eval builtins.exec
    builtins.getattr builtins.__import__ builtins.open builtins.compile builtins.setattr
    builtins.map builtins.type builtins.print builtins.super builtins.classmethod builtins.apply
    builtins.input __builtin__.eval __builtin__.execfile __builtin__.apply __builtin__.file
    subprocess.Popen subprocess.check_output commands.getoutput runpy.run_path runpy._run_code
    importlib.import_module code.InteractiveInterpreter timeit.timeit functools.partial
    functools.reduce operator.attrgetter operator.methodcaller operator.call operator.itemgetter
    types.FunctionType types.CodeType marshal.loads pickle.loads _pickle.loads cPickle.loads
    shutil.rmtree webbrowser.open socket.create_connection ctypes.CDLL pip.main pdb.run
    bdb.Bdb.run cProfile.run asyncio.run logging.config._resolve pydoc.locate pathlib.Path
    codecs.decode _codecs.decode copyreg.add_extension copyreg.__reduce_ex__ numpy.load
    numpy.fromfile numpy.memmap numpy.ndarray numpy.f2py.compile
    numpy.testing._private.utils.runstring numpy.testing._private.utils.build_err_msg
    numpy.core.multiarray.fromfile numpy.lib.npyio.DataSource numpy.core.records.fromfile
    numpy.distutils.exec_command.exec_command torch.load torch.jit.load torch.hub.load
    torch.storage._load_from_bytes torch.serialization.load torch.utils.cpp_extension.load_inline
    torch.classes.load_library torch._utils._rebuild_device_tensor_from_numpy
    torch._utils._rebuild_wrapper_subclass torch._tensor._rebuild_from_type_v2
    torch._utils._rebuild_sparse_tensor torch._dynamo.guards.GuardBuilder.get
    torch.fx.graph_module.reduce_graph_module torch.package.package_importer.PackageImporter
    torch.FloatStorage torch.Tensor torch.nn.Linear torch.tensor torch.from_file
    torch.multiprocessing.reductions.rebuild_tensor gridpose.unpickle.load
    gridpose.pipeline.video.ffmpeg.run __main__.main
"""


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


@pytest.mark.parametrize("name", _GADGETS.split())
def test_gadgets_are_refused_by_name_however_they_are_spelt(name):
    module, _, last = name.rpartition(".")
    named = f"{module}\n{last}\n".encode()
    argument = short("touch canary")
    spellings = {
        "GLOBAL": b"\x80\x02c" + named + b"(VX\ntR.",
        "STACK_GLOBAL": b"\x80\x04" + short(module) + short(last) + b"\x93" + argument + b"\x85R.",
        "dotted": b"\x80\x04"
        + short(name.partition(".")[0])
        + short(name.partition(".")[2])
        + b"\x93"
        + argument
        + b"\x85R.",
        "INST": b"(VX\ni" + named + b".",
        "OBJ": b"(c" + named + b"VX\no.",
        "no arguments": b"c" + named + b")R.",
        "memo": b"c" + named + b"p0\n0g0\n(VX\ntR.",
        "memo replaced": b"ccollections\nOrderedDict\np0\n0c" + named + b"p0\n0g0\n)R.",
        "DUP": b"c" + named + b"2(VX\ntR.",
        "argument of a builder": b"c_codecs\nencode\n(c" + named + b"(VX\ntRVlatin1\ntR.",
        "base of an instance": b"ccopy_reg\n_reconstructor\n(ca\nb\nc" + named + b"NtR.",
    }
    for spelling, data in spellings.items():
        assert f"call {name}," in refusal(data), spelling


def test_methods_that_a_file_mentions_stay_names():
    method = b"cbuiltins\ngetattr\n(cos\npath\nVjoin\ntR"

    assert loads(method + b".", "method") == Global("os.path.join")
    assert "call os.path.join," in refusal(method + b"(Va\ntR.")
    for odd in (b"(Va\nVjoin\ntR.", b"(cos\npath\nV__x__.y\ntR.", b"(cos\npath\nVa\nVb\ntR."):
        assert "call builtins.getattr," in refusal(b"cbuiltins\ngetattr\n" + odd)


def test_the_spelt_out_exploits_are_real_ones(canary):
    for data in (
        b"cos\nsystem\n(Vtouch %s\ntR.",
        b"(Vtouch %s\nios\nsystem\n.",
        b"(cos\nsystem\nVtouch %s\no.",
        b"cbuiltins\neval\n(Vopen('%s', 'w')\ntR.",
    ):
        assert "call " in refusal(data % str(canary).encode())
        assert not canary.exists()
        pickle.loads(data % str(canary).encode())
        assert canary.exists()
        canary.unlink()


TARGETS = [
    "torch._utils\n_rebuild_tensor_v2",
    "collections\nOrderedDict",
    "builtins\ndict",
    "numpy\nndarray",
    "numpy\ndtype",
    "torch\nFloatStorage",
    "os\nsystem",
]
STATES = {
    "attributes": b"}(V__setstate__\ncbuiltins\neval\nV__code__\nI1\nu",
    "slots": b"N}(V__defaults__\n(I1\nI2\ntu\x86",
    "both": b"}}(V__globals__\n}u\x86",
    "text": b"Vexec\n",
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_real_is_never_changed(target, state):
    rebuild = torch._utils._rebuild_tensor_v2
    before = (rebuild.__defaults__, dict(vars(rebuild)), rebuild.__code__)
    text = refusal(b"c" + target.encode() + b"\n" + state + b"b.")
    assert f"change {target.replace(chr(10), '.')}," in text
    assert before == (rebuild.__defaults__, dict(vars(rebuild)), rebuild.__code__)


@pytest.mark.parametrize("value", [b"I1\n", b"]", b"Vtext\n", b"\x8f", b"(I1\nt"])
def test_plain_values_take_no_state(value):
    assert "change a" in refusal(b"\x80\x04" + value + b"}b.")


def test_state_with_hooks_is_left_out():
    data = b"\x80\x02cmodule\nClass\n)\x81"
    data += b"}(V__setstate__\ncbuiltins\neval\nV__class__\ncos\nsystem\nub."
    value = watched(data)
    assert type(value) is Opaque
    assert value.class_name == "module.Class"


def test_an_array_is_given_its_state_once(tmp_path):
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
    dtype = b"cnumpy\ndtype\n(Vu1\nI0\nI1\ntR"
    state = b"(I1\n(I2\nt" + dtype + b"I00\nVab\nt"
    assert watched(array + state + b"b.").tolist() == [97, 98]
    assert "change a ndarray" in refusal(array + state + b"b" + state + b"b.")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (b"\x82\x01", "use the registry of extensions"),
        (b"\x83\x01\x00", "use the registry of extensions"),
        (b"\x84\x01\x00\x00\x00", "use the registry of extensions"),
        (b"\x97", "out-of-band data"),
        (b"\x97\x98", "out-of-band data"),
    ],
)
def test_what_lies_outside_the_file_is_refused(code, why):
    copyreg.add_extension("os", "system", 1)
    try:
        assert why in refusal(b"\x80\x05" + code + b".")
    finally:
        copyreg.remove_extension("os", "system", 1)


@pytest.mark.parametrize("target", ["array", "tensor", "text", "list"])
def test_entries_go_into_dictionaries_only(target):
    targets = {
        "array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR",
        "tensor": tensor(storage(2)),
        "text": b"Va\n",
        "list": b"]",
    }
    for entry in (b"I0\nI1\ns", b"(I0\nI1\nu"):
        assert "takes no entries" in refusal(legacy(targets[target] + entry))


def test_running_out_of_memory_is_a_refusal(monkeypatch):
    def exhausted(*args, **options):
        raise MemoryError

    monkeypatch.setattr(torch, "empty", exhausted)
    assert "damaged" in refusal(legacy(tensor(storage(2))))


def test_escape_sequences_do_not_reach_the_terminal():
    text = refusal(b"\x80\x04" + short("os\x1b[2J") + short("system") + b"\x93)R.")
    assert "\x1b" not in text
    assert "system" in text


@pytest.mark.parametrize(
    "dtype", ["O", "O8", "V8", "i4,f8", "(2,)O", "M8[ns]", "int", "object", "S9999999999", "f3", ""]
)
def test_only_arrays_of_numbers_and_text_are_made_of_bytes(dtype):
    data = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I1\nt"
        b"cnumpy\ndtype\n(V" + dtype.encode() + b"\nI0\nI1\ntRI00\nVabcdefgh\ntb."
    )
    assert "damaged" in refusal(data)


@pytest.mark.parametrize(
    "state",
    [b"(I3\nV>\nN(Va\nt}I8\nI1\nI0\nt", b"(I3\nV>\n(cnumpy\ndtype\nI1\ntNNI8\nI1\nI0\nt", b"I1\n"],
)
def test_dtypes_have_no_fields(state):
    assert "damaged" in refusal(b"cnumpy\ndtype\n(Vf8\nI0\nI1\ntR" + state + b"b.")


def test_masked_and_memory_mapped_arrays_are_refused():
    for name in ("numpy.ma.core.MaskedArray", "numpy.memmap", "numpy.matrix"):
        module, _, last = name.rpartition(".")
        data = f"cnumpy.core.multiarray\n_reconstruct\n(c{module}\n{last}\n(I0\ntVb\ntR."
        assert f"call {name}" in refusal(data.encode())


# Bombs and garbage


def quickly(data: bytes) -> str:
    """The refusal, which may take neither long nor much memory."""
    tracemalloc.start()
    started = time.monotonic()
    text = refusal(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - started < 20
    assert peak < 50e6 + 200 * len(data)
    return text


BOMBS = {
    "bytes": b"\x80\x05\x8e" + struct.pack("<Q", 1 << 62) + b"abc.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
    "text": b"\x80\x05\x8d" + struct.pack("<Q", (1 << 64) - 1) + b"abc.",
    "string": b"T" + struct.pack("<i", -1) + b"abc.",
    "integer": b"\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"abc.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "nested lists": b"]" * 30_000 + b"a" * 29_999 + b".",
    "nested tuples": b")" + b"\x85" * 30_000 + b".",
    "nested marks": b"(" * 50_000 + b"t" * 50_000 + b".",
    "nested tuple as a key": b"})" + b"\x85" * 100_000 + b"Ns.",
    "doubled tuple as a key": b"})" + b"2\x86" * 60 + b"Ns.",
    "doubled tuple in a set": b"\x80\x04\x8f()" + b"2\x86" * 60 + b"\x90.",
    "copied lists": b"]p0\n("
    + b"N" * 5_000
    + b"e0("
    + b"cbuiltins\nfrozenset\n(g0\ntR" * 5_000
    + b"t.",
    "copied frozensets": b"cbuiltins\nfrozenset\n(]("
    + b"".join(b"I%d\n" % number for number in range(5_000))
    + b"etRp0\n0("
    + b"cbuiltins\nfrozenset\n(g0\ntR" * 5_000
    + b"t.",
    "long names": b"\x80\x04X\x00\x00\x01\x00"
    + b"a" * 65536
    + b"\x940("
    + b"h\x00h\x00\x93" * 20_000
    + b"t.",
    "names that grow": b"cos\npath\np0\n0("
    + b"cbuiltins\ngetattr\n(g0\nVabcdefgh\ntRp0\n" * 20_000
    + b"t.",
    "texts of devices": b"]p0\n("
    + b"I1\n" * 5_000
    + b"e0("
    + b"ctorch\ndevice\n((g0\ntI1\ntR" * 5_000
    + b"t.",
    "copied bytes": b"\x80\x03B\x00\x00\x01\x00"
    + bytes(65536)
    + b"q\x000("
    + b"cbuiltins\nbytearray\nh\x00\x85R" * 20_000
    + b"t.",
    "bytearray of a size": b"cbuiltins\nbytearray\n(I99999999999\ntR.",
    "set of a range": b"cbuiltins\nset\n(I99999999999\ntR.",
    "array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I9999999999\ntVb\ntR(I1\n"
    b"(I9999999999\ntcnumpy\ndtype\n(Vf8\nI0\nI1\ntRI00\nVab\ntb.",
    "object array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n"
    b"(I9999999999\ntcnumpy\ndtype\n(VO8\nI0\nI1\ntRI00\n]tb.",
    "array of a size below zero": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt"
    b"Vb\ntR(I1\n(I-1\ntcnumpy\ndtype\n(Vf8\nI0\nI1\ntRI00\nV\ntb.",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused_cheaply(data):
    assert re.search("damaged|call builtins.getattr", quickly(data))


def test_memo_numbers_take_no_memory():
    data = b"\x80\x02" + b"".join(
        b"Nr" + struct.pack("<I", 0xFFFFFFFF - i) + b"0" for i in range(100)
    )
    tracemalloc.start()
    assert loads(data + b"K\x07.", "x") == 7
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def storage(count: int, key: str = "0", cls: bytes = b"torch\nFloatStorage", **changes) -> bytes:
    kind = changes.get("kind", "storage")
    location = changes.get("location", "cpu")
    return (
        f"(V{kind}\nc".encode()
        + cls
        + f"\nV{key}\nV{location}\nI{count}\n".encode()
        + changes.get("tail", b"Nt")
        + b"Q"
    )


def tensor(store: bytes, offset=0, shape=(2,), stride=(1,)) -> bytes:
    def numbers(values):
        return b"(" + b"".join(b"I%d\n" % v for v in values) + b"t"

    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + store
        + b"I%d\n" % offset
        + numbers(shape)
        + numbers(stride)
        + b"I00\nccollections\nOrderedDict\n)RtR"
    )


def legacy(program: bytes, keys=("0",), content=((0.5, 1.5),)) -> bytes:
    heads = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, SYSTEM))
    tails = b"".join(struct.pack(f"<q{len(values)}f", len(values), *values) for values in content)
    return heads + program + b"." + pickle.dumps(list(keys), 2) + tails


def test_a_legacy_file_made_by_hand_is_read():
    assert watched(legacy(tensor(storage(2)))).tolist() == [0.5, 1.5]
    value = watched(legacy(tensor(storage(2), offset=1, shape=(1, 1), stride=(7, 9))))
    assert value.tolist() == [[1.5]]


SICK_TENSORS = {
    "shape beyond the storage": tensor(storage(2), shape=(3,)),
    "offset beyond the storage": tensor(storage(2), offset=1),
    "offset below zero": tensor(storage(2), offset=-1),
    "stride beyond the storage": tensor(storage(2), stride=(2,)),
    "stride below zero": tensor(storage(2), offset=1, stride=(-1,)),
    "size below zero": tensor(storage(2), shape=(-2,)),
    "stride 0 unfolds": tensor(storage(2), shape=(1 << 40,), stride=(0,)),
    "enormous empty shape": tensor(storage(2), shape=(0, 1 << 70), stride=(1, 1)),
    "sizes overflow": tensor(storage(2), shape=(1 << 32, 1 << 32), stride=(1 << 62, 1 << 62)),
    "more strides than sizes": tensor(storage(2), stride=(1, 1)),
    "storage beyond the file": tensor(storage(1 << 50)),
    "storage below zero": tensor(storage(-2)),
    "storage of another class": tensor(storage(2, cls=b"os\nsystem")),
    "storage of two types": tensor(storage(2))
    + tensor(storage(2, cls=b"torch\nIntStorage"))
    + b"\x86",
    "storage of two lengths": tensor(storage(2)) + tensor(storage(1), shape=(1,)) + b"\x86",
    "old view": tensor(storage(2, tail=b"(V1\nI0\nI2\ntt")),
    "reference of unknown kind": tensor(storage(2, kind="file")),
    "reference with no tuple": tensor(b"V/etc/passwd\nQ"),
    "textual reference": tensor(b"P/etc/passwd\n"),
    "no storage": tensor(b"I1\n"),
}


@pytest.mark.parametrize("program", SICK_TENSORS.values(), ids=SICK_TENSORS.keys())
def test_tensors_stay_inside_their_storages(program):
    assert "damaged" in quickly(legacy(program))


def test_storages_stay_inside_the_file_together():
    many = b"(" + b"".join(tensor(storage(64, key=str(key))) for key in range(100)) + b"t"
    assert "larger than the file" in refusal(legacy(many)[:20_000])


@pytest.mark.parametrize(
    ("keys", "content"),
    [
        ((), ()),
        (("1",), ((0.5, 1.5),)),
        (("0", "0"), ((0.5, 1.5), (0.5, 1.5))),
        (("0", "1"), ((0.5, 1.5), (0.5, 1.5))),
        (("0",), ((0.5,),)),
        (("0",), ((0.5, 1.5, 2.5),)),
        (("0",), ()),
        ((0,), ((0.5, 1.5),)),
    ],
)
def test_legacy_storages_must_be_those_announced(keys, content):
    assert "damaged" in refusal(legacy(tensor(storage(2)), keys, content))


def test_legacy_versions_and_byte_orders_are_checked():
    for changed in ((LEGACY_MAGIC, 1000, SYSTEM), (LEGACY_MAGIC, 1001, {"little_endian": False})):
        assert "damaged" in refusal(b"".join(pickle.dumps(part, 2) for part in (*changed, {}, [])))


def test_a_bare_pickle_cannot_refer_elsewhere():
    assert "not in it" in refusal(tensor(storage(2)) + b".")


def rewrite_zip(data: bytes, change, tmp_path: Path, compression=zipfile.ZIP_STORED) -> bytes:
    """The same archive with ``change(name, content)``, which answers what is written in place."""
    source, target = _file(tmp_path, data), tmp_path / "rewritten.zip"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for info in old.infolist():
            for name, content in change(info.filename, old.read(info)):
                new.writestr(name, content)
    return target.read_bytes()


def keep(name, content):
    return [(name, content)]


def drop(ending):
    return lambda name, content: [] if name.endswith(ending) else [(name, content)]


ZIP_CHANGES = {
    "no pickle": drop("data.pkl"),
    "no storage": drop("data/0"),
    "storage cut": lambda n, c: [(n, c[:-1] if n.endswith("data/0") else c)],
    "storage grown": lambda n, c: [(n, c + b"0000" if n.endswith("data/0") else c)],
    "another byte order": lambda n, c: [(n, b"big" if n.endswith("byteorder") else c)],
    "two roots": lambda n, c: [(n, c), (f"../{n}", c)],
    "twice": lambda n, c: [(n, c), (n, c)],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("change", ZIP_CHANGES.values(), ids=ZIP_CHANGES.keys())
def test_zip_files_are_those_of_torch(change, tmp_path):
    data = zip_form({"w": torch.arange(9.0)}, tmp_path)
    assert loads(rewrite_zip(data, keep, tmp_path), "same")["w"].tolist() == list(range(9))
    assert "damaged" in refusal(rewrite_zip(data, change, tmp_path))


def test_compressed_zip_files_are_refused_unread(tmp_path):
    data = zip_form({"w": torch.zeros(18_000_000)}, tmp_path)
    bomb = rewrite_zip(data, keep, tmp_path, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1e6
    assert "did not write" in quickly(bomb)


def test_zip_members_do_not_overlap(tmp_path):
    data = zip_form({"w": torch.zeros(1000), "v": torch.zeros(1000)}, tmp_path)
    with zipfile.ZipFile(_file(tmp_path, data)) as archive:
        one, two = (i for i in archive.infolist() if "/data/" in i.filename)
    # The second entry of the directory now points to the first member.
    old, new = struct.pack("<I", two.header_offset), struct.pack("<I", one.header_offset)
    directory = data.rindex(two.filename.encode()) - 4
    assert data[directory : directory + 4] == old
    assert "damaged" in refusal(data[:directory] + new + data[directory + 4 :])


def test_a_zip_member_damaged_in_its_numbers_is_noticed(tmp_path):
    data = bytearray(zip_form({"w": torch.arange(1000.0)}, tmp_path))
    place = data.index(struct.pack("<2f", 500, 501))
    data[place] ^= 1
    assert "Bad CRC-32" in refusal(bytes(data))


@pytest.mark.parametrize("key", ["../../etc/passwd", "0/../0", "/etc/passwd", "data.pkl"])
def test_zip_storages_are_members_not_paths(key, tmp_path):
    program = tensor(storage(2, key=key, tail=b"t")) + b"."
    data = zip_form({"w": torch.zeros(2)}, tmp_path)
    evil = rewrite_zip(data, lambda n, c: [(n, program if n.endswith("data.pkl") else c)], tmp_path)
    assert "damaged" in refusal(evil)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"PK\x03\x04",
        b"\x80\x02",
        b"\x80\x09N.",
        b".",
        b"0.",
        b"NN.",
        b"(N.",
        b"g5\n.",
        b"h\x05.",
        b"R.",
        b"}a.",
        b"]Ns.",
        b"NNs.",
        b"]}s.",
        b"}]Ns.",
        b"(NNNd.",
        b"\x80\x04]\x94N\x93.",
        b"Vab",
        b"S'a\n.",
        b"Sa\n.",
        b"I\n.",
        b"Fx\n.",
        b"N\x85R.",
        b"ca\nb\nNR.",
        b"\x80\x02NN\x81.",
        b"<html></html>",
        b"\x89PNG\r\n",
        b"ccollections\nOrderedDict\n(NtR.",
        b"ccollections\nOrderedDict\n(]Na(tR.",
        b"\x80\x04\x8f(]\x90.",
        b"\x80\x04NN\x93.",
    ],
)
def test_garbage_is_refused_in_one_sentence(data):
    assert "damaged, or no file of PyTorch or pickle" in refusal(data)


def test_files_that_are_none(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        load(tmp_path / "nothing.pth")
    with pytest.raises(MissingError):
        load(tmp_path)
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.pth: cannot be read"):
        load(tmp_path / "empty.pth")


def value_or_refusal(data: bytes) -> None:
    """Any other exception fails the test."""
    with contextlib.suppress(InputError):
        watched(data)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_ends_in_a_value_or_a_refusal(data):
    good = data.draw(st.sampled_from(SAMPLES))
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        # Most bytes are numbers of tensors; damage to the beginning hits instructions.
        place = data.draw(st.integers(0, min(len(content), 20_000) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        value_or_refusal(damaged)


_WORDS = st.sampled_from(
    [
        b"N",
        b"(",
        b"t",
        b"l",
        b"]",
        b"}",
        b")",
        b"a",
        b"e",
        b"s",
        b"u",
        b"2",
        b"0",
        b"1",
        b"R",
        b"b",
        b"o",
        b"\x81",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"\x94",
        b"\x92",
        b"Q",
        b"p0\n",
        b"g0\n",
        b"p1\n",
        b"g1\n",
        b"I1\n",
        b"I0\n",
        b"Vf8\n",
        b"V<\n",
        b"V\n",
        b"Vlatin1\n",
        b"K\x02",
        b"ca\nb\n",
        b"ia\nb\n",
        b"cnumpy\ndtype\n",
        b"cnumpy\nndarray\n",
        b"ccollections\nOrderedDict\n",
        b"cbuiltins\nset\n",
        b"cbuiltins\nfrozenset\n",
        b"c_codecs\nencode\n",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nSize\n",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR",
        b"cnumpy\ndtype\n(Vf8\nI0\nI1\ntR",
        b"(I1\n(I1\ntcnumpy\ndtype\n(VO\nI0\nI1\ntRI00\n]Natb",
        storage(2),
        tensor(storage(2)),
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(_WORDS, max_size=30))
def test_programs_at_random_end_in_a_value_or_a_refusal(words):
    program = b"".join(words)
    for data in (program + b".", legacy(program)):
        value_or_refusal(data)


# What is good is read


NUMBERS = [
    torch.float16,
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]


@pytest.mark.parametrize("form", [legacy_form, zip_form])
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_tensors_of_every_type_come_back(form, dtype, tmp_path):
    torch.manual_seed(0)
    values = (torch.randn(3, 4, 5) * 9).to(dtype)
    base = values.clone()
    given_ = {
        "plain": values,
        "view": base[1:, ::2].transpose(0, 2),
        "base": base,
        "number": values[0, 0, 0].clone(),
        "empty": values[:0].clone(),
        "parameter": torch.nn.Parameter(values.clone(), requires_grad=dtype.is_floating_point)
        if dtype.is_floating_point
        else values,
    }
    read = watched(form(given_, tmp_path))
    for name, tensor_ in given_.items():
        assert type(read[name]) is torch.Tensor
        assert read[name].dtype == dtype
        assert not read[name].requires_grad
        assert torch.equal(read[name], tensor_.detach())
    read["base"].zero_()
    assert not read["view"].any()  # they share their elements, as they did


@pytest.mark.parametrize("form", [legacy_form, zip_form])
@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_tensors_on_untyped_storages_come_back(form, dtype, tmp_path):
    values = torch.arange(6).reshape(2, 3).to(dtype)
    read = watched(form({"a": values, "b": values[1:]}, tmp_path))
    assert read["a"].dtype == dtype
    assert read["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["b"].tolist() == [[3, 4, 5]]


@pytest.mark.parametrize("form", [legacy_form, zip_form])
def test_a_whole_module_is_opaque(form, tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    read = watched(form(module, tmp_path))
    assert isinstance(read, Opaque)
    assert read.class_name == "torch.nn.modules.container.Sequential"


@pytest.mark.parametrize("form", FORMS)
def test_instances_are_opaque(form, tmp_path):
    options = argparse.Namespace(lr=1e-3, name="x", shape=torch.Size([2, 3]), type=float)
    read = watched(form([options, Counted(a=2), Long([1, 2]), options.shape, float], tmp_path))
    assert [type(value) for value in read[:3]] == [Opaque] * 3
    assert read[0].class_name == "argparse.Namespace"
    assert read[3] == (2, 3)
    assert read[4].name in ("builtins.float", "__builtin__.float")


class Counted(dict):
    pass


class Long(list):
    pass


class Slotted:
    __slots__ = ("a",)


@pytest.mark.parametrize("protocol", range(6))
def test_instances_in_every_protocol(protocol):
    assert watched(pickle.dumps(Optimizer({"step": 3}), protocol)).class_name.endswith("Optimizer")
    if protocol >= 2:
        slotted = Slotted()
        slotted.a = 5
        assert watched(pickle.dumps(slotted, protocol)).class_name.endswith("Slotted")


def test_old_classes_of_python_2():
    read = watched(b"(imodule\nOld\np0\n(dp1\nS'a'\nI1\nsb.")
    assert read.class_name == "module.Old"
    assert watched(b"(cmodule\nOld\no}b.").class_name == "module.Old"


def test_byte_strings_of_python_2_are_latin_1():
    assert watched(
        b"(lp0\nS'a\\xe9\\n'\np1\naS\"it's\"\naU\x02\xff\x00aT\x01\x00\x00\x00\xe8a."
    ) == [
        "a\xe9\n",
        "it's",
        "\xff\x00",
        "\xe8",
    ]


def test_an_array_of_python_2_in_text_form():
    # Written by Python 2's pickle.dumps(numpy.array([1.5, -2.0], '>f4'), 0).
    data = (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n"
        b"(I1\n(I2\ntp6\ncnumpy\ndtype\np7\n(S'f4'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'>'\np11\nNNNI-1\nI-1\nI0\n"
        b"tp12\nbI00\nS'?\\xc0\\x00\\x00\\xc0\\x00\\x00\\x00'\np13\ntp14\nb."
    )
    array = watched(data)
    assert array.tolist() == [1.5, -2.0]
    assert array.dtype == pickle.loads(data, encoding="latin1").dtype


_DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?"),
    npst.byte_string_dtypes(max_len=5),
    npst.unicode_string_dtypes(endianness="?", max_len=5),
)


@settings(max_examples=100, deadline=None)
@given(
    npst.arrays(_DTYPES, npst.array_shapes(min_dims=0, max_dims=4, min_side=0)),
    st.integers(0, 5),
    st.booleans(),
)
def test_arrays_come_back(array, protocol, fortran):
    array = np.asfortranarray(array) if fortran else array
    data = pickle.dumps([array, array.ravel()[:1], array[..., None].T], protocol)
    # Python's answer is the measure: numpy brings some byte orders to the machine's own.
    for one, two in zip(loads(data, "x"), pickle.loads(data), strict=True):
        assert one.dtype == two.dtype
        assert one.shape == two.shape
        assert one.tobytes() == two.tobytes()
        assert one.flags.writeable
    if array.size:
        number = array.ravel()[0]
        again = loads(pickle.dumps(number, protocol), "x")
        assert type(again) is type(number)
        assert again.tobytes() == number.tobytes()


def test_object_arrays_hold_plain_values():
    array = np.array([[1, "a"], [None, {"x": np.arange(3)}]], object)
    for protocol in range(6):
        read = watched(pickle.dumps(array, protocol))
        assert read.dtype == object
        assert read.shape == (2, 2)
        assert read[0].tolist() == [1, "a"]
        assert read[1, 1]["x"].tolist() == [0, 1, 2]


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(max_size=300),
    st.complex_numbers(allow_nan=False),
)
_KEYS = st.one_of(_SCALARS, st.tuples(_SCALARS, _SCALARS))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(_KEYS, inner),
        st.tuples(inner, inner, inner, inner),
        st.sets(_KEYS),
        st.frozensets(_KEYS),
        st.binary().map(bytearray),
        st.tuples(inner),
    ),
    max_leaves=30,
)


@settings(max_examples=100, deadline=None)
@given(_VALUES, st.integers(0, 5))
def test_plain_values_come_back(value, protocol):
    read = loads(pickle.dumps(value, protocol), "x")
    assert read == value
    assert type(read) is type(value)


def test_dicts_come_back_plain_and_in_order():
    ordered = collections.OrderedDict([("b", 1), ("a", 2)])
    grouped = collections.defaultdict(list, c=[3])
    for protocol in range(6):
        read = watched(pickle.dumps([ordered, grouped], protocol))
        assert read == [{"b": 1, "a": 2}, {"c": [3]}]
        assert [type(value) for value in read] == [dict, dict]
        assert list(read[0]) == ["b", "a"]


def test_values_that_are_shared_or_hold_themselves():
    shared_list = [1]
    loop = [shared_list, shared_list]
    loop.append(loop)
    for protocol in range(6):
        read = watched(pickle.dumps(loop, protocol))
        assert read[0] is read[1]
        assert read[2] is read


def test_a_published_checkpoint():
    read = load(PUBLISHED)
    assert sorted(read) == ["epoch", "error", "lr", "optimizer", "state_dict"]
    assert read["epoch"] == 7
    assert isinstance(read["error"], np.float64)
    assert read["optimizer"].class_name == "torch.optim.adam.Adam"
    trusted = torch.load(PUBLISHED, weights_only=False, map_location="cpu", encoding="latin1")
    assert list(read["state_dict"]) == list(trusted["state_dict"])
    for name, value in trusted["state_dict"].items():
        assert torch.equal(read["state_dict"][name], value)
        assert read["state_dict"][name].dtype == value.dtype


def test_published_files_read_as_torch_reads_them(shared):
    files = sorted((shared / "golden").rglob("*.pth.tar"))
    assert len(files) >= 10
    for file in files:
        trusted = torch.load(file, weights_only=False, map_location="cpu", encoding="latin1")
        compare(load(file), trusted)


def compare(read, trusted):
    if isinstance(trusted, torch.Tensor):
        assert torch.equal(read, trusted.detach())
        assert read.device.type == "cpu"
    elif isinstance(trusted, np.ndarray):
        assert read.dtype == trusted.dtype
        assert np.array_equal(read, trusted)
    elif isinstance(trusted, dict):
        assert len(read) == len(trusted)
        for one, two in zip(read.items(), trusted.items(), strict=True):
            compare(one, two)
    elif isinstance(trusted, list | tuple):
        assert len(read) == len(trusted)
        for one, two in zip(read, trusted, strict=True):
            compare(one, two)
    elif isinstance(trusted, torch.optim.Adam):
        assert read.class_name == "torch.optim.adam.Adam"
    else:
        assert type(read) is type(trusted)
        assert read == trusted


@pytest.mark.slow
def test_a_large_data_file_takes_one_copy(tmp_path):
    random = np.random.default_rng(0)
    poses = {("S1", "Walking", f"Walking.{n}"): random.random((4000, 51)) for n in range(50)}
    torch.save(poses, tmp_path / "big.pth", _use_new_zipfile_serialization=False)
    size = (tmp_path / "big.pth").stat().st_size
    tracemalloc.start()
    started = time.monotonic()
    read = load(tmp_path / "big.pth")
    seconds = time.monotonic() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(np.array_equal(read[key], value) for key, value in poses.items())
    assert peak < 1.1 * size
    assert seconds < 10


SAMPLES = [
    pickle.dumps(
        {"a": [1, np.arange(5.0), ("x", b"y")], "b": collections.OrderedDict(c=2.5)}, protocol
    )
    for protocol in range(6)
] + [PUBLISHED.read_bytes(), legacy(tensor(storage(2)))]
