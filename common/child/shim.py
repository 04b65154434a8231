"""The places where Hansa touches Flower below its public names, each guarded and each with a public way beside it.

1. ``TaskIdentity``: ``Message`` asks it who we are.  2. ``Run``: what ``Grid.run`` returns.  3. ``Message`` and
``Metadata`` made without their checks, which are for people and not for us.  4. ``Array`` over raw blocks: the public
way (``.npy`` bytes in ``Array.data``) costs three copies and more of each model.  5. bfloat16, which numpy and so
Flower cannot name: dtype ``"bfloat16"``, ``numpy()`` gives float32.

Nothing here changes what an app sees; ``install`` must run before any app code.
"""

from __future__ import annotations

import io
import sys
import time
from collections import OrderedDict
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.app.metadata import Metadata

from common.child.blocks import SAFETENSORS, Block, Maker, Raw, bytes_of, flower_dtype, storage_dtype

try:
    from flwr.supercore.task_identity import TaskIdentity
except ImportError:  # before 1.38 nobody asked
    TaskIdentity = None  # type: ignore[assignment,misc]
try:
    from flwr.supercore.run import Run
except ImportError:
    from flwr.common.typing import Run  # type: ignore[attr-defined,no-redef]

NUMPY = "numpy.ndarray"
SERVER_NODE = 1  # Flower's own id of the server's side
_BLOCK = "_hansa_block"
_DATA = "_hansa_data"
_maker = Maker(in_files=False)


def take_back() -> None:
    """Use the memory of the last answer again: whoever sends the next message has read it."""
    _maker.take_back()


def identify(run_id: int, node_id: int) -> None:
    """Tell Flower which run and node this process is."""
    if TaskIdentity is not None:
        TaskIdentity.run_id = run_id
        TaskIdentity.node_id = node_id
        TaskIdentity.task_id = node_id


def make_run(run_id: int) -> Run:
    """Return Flower's description of this run, as far as an app may read it."""
    return Run.create_empty(run_id)


def instruction(
    content: RecordDict, *, run_id: int, message_id: str, dst: int, kind: str, group_id: str, ttl: float
) -> Message:
    """Return the message that a ServerApp sent, as its ClientApp receives it."""
    return _message(content, None, (run_id, message_id, SERVER_NODE, dst, "", group_id, ttl, kind))


def reply(to: Message, content: RecordDict | None, error: Error | None, *, message_id: str, src: int) -> Message:
    """Return the answer to ``to`` that came from node ``src``."""
    asked = to.metadata
    facts = (asked.run_id, message_id, src, asked.src_node_id, asked.message_id, asked.group_id, asked.ttl)
    return _message(content, error, (*facts, asked.message_type))


def _message(content: RecordDict | None, error: Error | None, facts: tuple[Any, ...]) -> Message:
    metadata = Metadata.__new__(Metadata)
    run_id, message_id, src, dst, reply_to, group_id, ttl, kind = facts
    metadata.__dict__.update(
        _run_id=run_id,
        _message_id=message_id,
        _src_node_id=src,
        _dst_node_id=dst,
        _src_task_id=src,
        _dst_task_id=dst,
        _reply_to_message_id=reply_to,
        _group_id=group_id,
        _created_at=time.time(),  # noqa: TID251 what Flower's own constructor writes; nothing is decided by it
        _ttl=ttl,
        _message_type=kind,
        _delivered_at="",
    )
    message = Message.__new__(Message)
    message.__dict__.update(_metadata=metadata, _content=content, _error=error)
    return message


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message that an app made the id by which its reply is found."""
    message.metadata.__dict__["_message_id"] = message_id


def without_content(message: Message) -> Message:
    """Return the message's facts without its records."""
    bare = Message.__new__(Message)
    bare.__dict__.update(_metadata=message.metadata, _content=None, _error=None)
    return bare


def peek(array: Array) -> Raw:
    """Return the array's values for reading only, in storage dtype (bfloat16 as float32)."""
    block = array.__dict__.get(_BLOCK)
    if block is None or array.dtype == "bfloat16":
        return array.numpy()
    return cast("Block", block).peek()


def shell(content: RecordDict) -> RecordDict:
    """Return a copy that an app may change without changing the original; arrays are shared, they never change."""
    copy = content.copy()
    for name, record in content.items():
        twin = record.copy()
        for key, value in record.items():
            if isinstance(value, list):
                twin[key] = list(value)  # type: ignore[assignment]
        copy.__dict__["_data"][name] = twin
    return copy


def block_of(array: Array) -> tuple[Block, list[Any] | None]:
    """Return the raw block of ``array``, and its dtype, shape and stype where safetensors has no word for them."""
    block = array.__dict__.get(_BLOCK)
    if block is not None:
        return cast("Block", block), None
    data = array.data
    if array.stype == NUMPY and array.dtype in SAFETENSORS:
        return _from_data(array.dtype, tuple(array.shape), data), None
    return memory_block("uint8", (len(data),), data), [array.dtype, list(array.shape), array.stype]


def _from_data(dtype: str, shape: tuple[int, ...], data: bytes) -> Block:
    if dtype == "bfloat16":
        return memory_block(dtype, shape, data)
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    return Block(dtype, loaded.shape, np.ascontiguousarray(loaded, storage_dtype(dtype)).reshape(loaded.shape))


def memory_block(dtype: str, shape: tuple[int, ...], data: bytes) -> Block:
    """Return a block over bytes that are in memory."""
    return Block(dtype, shape, np.frombuffer(data, storage_dtype(dtype)).reshape(shape))


def array_of(block: Block, foreign: list[Any] | None) -> Array:
    """Return the Flower ``Array`` over ``block``."""
    if foreign is not None:
        dtype, shape, stype = foreign
        return Array(dtype, tuple(shape), stype, block.private().tobytes())
    array = Array.__new__(Array)
    array.__dict__.update(dtype=block.dtype, shape=block.shape, stype=NUMPY, _is_dirty=True)
    array.__dict__[_BLOCK] = block
    return array


def cast_array(array: Array, dtype: str) -> Array:
    """Return ``array`` in another Flower dtype; into integers rounded to the nearest and kept within their range."""
    return cast_values(array.numpy(), dtype)


def cast_values(values: Raw, dtype: str) -> Array:
    """Return an ``Array`` of ``values`` in Flower dtype ``dtype``."""
    if dtype == "bfloat16":
        return array_of(_maker.block(_to_bfloat16(values), dtype), None)
    target = np.dtype(dtype)
    if target.kind in "iu" and values.dtype.kind == "f":
        limits = np.iinfo(target)
        # float64 cannot name the ends of int64: one step outside is as good as one step inside.
        low, high = values.dtype.type(limits.min), values.dtype.type(limits.max)
        rounded = np.rint(values)
        with np.errstate(invalid="ignore"):
            inside = rounded.clip(low, high).astype(target)
        values = np.where(rounded >= high, limits.max, np.where(rounded <= low, limits.min, inside))
    return array_of(_maker.block(np.asarray(values.astype(target))), None)


def _to_bfloat16(values: Raw) -> Raw:
    """Return the 16 high bits of each float32, rounded to the nearest, ties to even; NaN stays NaN."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded).astype(np.uint16)


def _npy(block: Block) -> bytes:
    """Return what ``np.save`` would have written; for bfloat16 the bare bytes."""
    array = block.private()
    if block.dtype == "bfloat16":
        return array.tobytes()
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return b"".join((head.getvalue(), bytes_of(array)))


def _get_data(self: Array) -> bytes:
    block = self.__dict__.get(_BLOCK)
    if block is not None:
        return _npy(block)
    return cast("bytes", self.__dict__[_DATA] if _DATA in self.__dict__ else self.__dict__["data"])  # made before us


def _set_data(self: Array, data: bytes) -> None:
    self.__dict__.pop(_BLOCK, None)
    self.__dict__[_DATA] = data


def _numpy(self: Array) -> Raw:
    if self.stype != NUMPY:
        raise TypeError(f"Unsupported serialization type for numpy conversion: '{self.stype}'")
    block = self.__dict__.get(_BLOCK)
    if block is None:
        if self.dtype != "bfloat16":
            return cast("Raw", np.load(io.BytesIO(self.data), allow_pickle=False))
        block = _from_data(self.dtype, tuple(self.shape), self.data)
    raw = cast("Block", block).private()
    return (raw.astype(np.uint32) << 16).view(np.float32) if self.dtype == "bfloat16" else raw


def _from_numpy(_cls: type[Array], ndarray: Raw) -> Array:
    if not isinstance(ndarray, np.ndarray):
        raise AssertionError(f"Expected NumPy ndarray, got {type(ndarray)}")  # noqa: TRY004 Flower raises this one
    name = flower_dtype(ndarray)
    if name:
        return array_of(_maker.block(ndarray, name), None)
    out = io.BytesIO()
    np.save(out, ndarray, allow_pickle=False)
    return Array(str(ndarray.dtype), tuple(ndarray.shape), NUMPY, out.getvalue())


def _from_torch(_cls: type[Array], tensor: Any) -> Array:
    torch = sys.modules["torch"]
    plain = tensor.detach().cpu()
    if plain.dtype == torch.bfloat16:
        return array_of(_maker.block(plain.contiguous().view(torch.uint16).numpy(), "bfloat16"), None)
    return _from_numpy(Array, plain.numpy())


def _from_array_dict(_cls: type[ArrayRecord], array_dict: dict[str, Array], *, keep_input: bool = True) -> ArrayRecord:
    record = ArrayRecord()
    for key, array in array_dict.items():
        twin = Array.__new__(Array)
        twin.__dict__.update(array.__dict__)
        twin.shape = tuple(array.shape)
        record[key] = twin
    if not keep_input:
        array_dict.clear()
    return record


def _from_state_dict(_cls: type[ArrayRecord], state_dict: dict[str, Any], *, keep_input: bool = True) -> ArrayRecord:
    if "torch" not in sys.modules:
        raise RuntimeError("PyTorch is required to use from_torch_state_dict")
    record = ArrayRecord()
    for key in list(state_dict):
        record[key] = _from_torch(Array, state_dict[key] if keep_input else state_dict.pop(key))
    return record


def _to_state_dict(self: ArrayRecord, *, keep_input: bool = True) -> OrderedDict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None:
        raise RuntimeError("PyTorch is required to use to_torch_state_dict")
    state = OrderedDict()
    for key in list(self):
        array = self[key] if keep_input else self.pop(key)
        if array.dtype == "bfloat16" and array.stype == NUMPY:
            state[key] = torch.from_numpy(block_of(array)[0].private()).view(torch.bfloat16)
        else:
            state[key] = torch.from_numpy(array.numpy())
    return state


def _reduce(self: Array) -> tuple[Any, ...]:
    """Copy and pickle by Flower's public fields: a worker process of the app does not have our modules."""
    return Array, (self.dtype, tuple(self.shape), self.stype, self.data)


def _deepcopy(self: Array, _memo: dict[int, Any]) -> Array:
    return _from_array_dict(ArrayRecord, {"": self})[""]


def install(*, in_files: bool) -> None:
    """Put raw blocks under Flower's arrays; ``in_files`` writes the app's new arrays where they can be sent from."""
    _maker.in_files = in_files
    array: Any = Array
    array.data = property(_get_data, _set_data)
    array.numpy = _numpy
    array.from_numpy_ndarray = classmethod(_from_numpy)
    array.from_torch_tensor = classmethod(_from_torch)
    array.__reduce__ = _reduce
    array.__deepcopy__ = _deepcopy
    record: Any = ArrayRecord
    record.from_array_dict = classmethod(_from_array_dict)
    record.from_torch_state_dict = classmethod(_from_state_dict)
    record.to_torch_state_dict = _to_state_dict
