"""The protocol's messages over gRPC, as far as they are spoken here; names and numbers are those of the protocol.

They live in a descriptor pool of their own: a program that also loads another definition of the package
``inference``, such as that of a client library, would find each name taken in the common pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig", "ModelInfer")

_PARAMETERS = "map InferParameter"

_MESSAGES: dict[str, dict[int, str]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {1: "live bool"},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {1: "ready bool"},
    "ModelReadyRequest": {1: "name string", 2: "version string"},
    "ModelReadyResponse": {1: "ready bool"},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {1: "name string", 2: "version string", 3: "extensions string*"},
    "ModelMetadataRequest": {1: "name string", 2: "version string"},
    "ModelMetadataResponse": {
        1: "name string",
        2: "versions string*",
        3: "platform string",
        4: "inputs ModelMetadataResponse.TensorMetadata*",
        5: "outputs ModelMetadataResponse.TensorMetadata*",
    },
    "ModelMetadataResponse.TensorMetadata": {1: "name string", 2: "datatype string", 3: "shape int64*"},
    "InferParameter": {
        1: "bool_param bool?",
        2: "int64_param int64?",
        3: "string_param string?",
        4: "double_param double?",
        5: "uint64_param uint64?",
    },
    "InferTensorContents": {
        1: "bool_contents bool*",
        2: "int_contents int32*",
        3: "int64_contents int64*",
        4: "uint_contents uint32*",
        5: "uint64_contents uint64*",
        6: "fp32_contents float*",
        7: "fp64_contents double*",
        8: "bytes_contents bytes*",
    },
    "ModelInferRequest": {
        1: "model_name string",
        2: "model_version string",
        3: "id string",
        4: f"parameters {_PARAMETERS}",
        5: "inputs ModelInferRequest.InferInputTensor*",
        6: "outputs ModelInferRequest.InferRequestedOutputTensor*",
        7: "raw_input_contents bytes*",
    },
    "ModelInferRequest.InferInputTensor": {
        1: "name string",
        2: "datatype string",
        3: "shape int64*",
        4: f"parameters {_PARAMETERS}",
        5: "contents InferTensorContents",
    },
    "ModelInferRequest.InferRequestedOutputTensor": {1: "name string", 2: f"parameters {_PARAMETERS}"},
    "ModelInferResponse": {
        1: "model_name string",
        2: "model_version string",
        3: "id string",
        4: f"parameters {_PARAMETERS}",
        5: "outputs ModelInferResponse.InferOutputTensor*",
        6: "raw_output_contents bytes*",
    },
    "ModelInferResponse.InferOutputTensor": {
        1: "name string",
        2: "datatype string",
        3: "shape int64*",
        4: f"parameters {_PARAMETERS}",
        5: "contents InferTensorContents",
    },
    "ModelConfigRequest": {1: "name string", 2: "version string"},
    "ModelConfigResponse": {1: "config ModelConfig"},
    "ModelConfig": {
        1: "name string",
        2: "platform string",
        4: "max_batch_size int32",
        5: "input ModelInput*",
        6: "output ModelOutput*",
        14: "parameters map ModelParameter",
        17: "backend string",
    },
    "ModelInput": {1: "name string", 2: "data_type DataType", 4: "dims int64*", 8: "optional bool"},
    "ModelOutput": {1: "name string", 2: "data_type DataType", 3: "dims int64*"},
    "ModelParameter": {1: "string_value string"},
}
"""Fields by number: name and type, ``*`` for repeated, ``?`` for one of a choice, ``map`` from text."""

_DATA_TYPES = {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_INT32": 8, "TYPE_FP32": 11, "TYPE_STRING": 13}

_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="open_inference_v2.proto", package=PACKAGE, syntax="proto3")
    data_type = file.enum_type.add(name="DataType")
    for name, number in _DATA_TYPES.items():
        data_type.value.add(name=name, number=number)
    for path, fields in _MESSAGES.items():
        outer, _, inner = path.partition(".")
        message = (
            next(known for known in file.message_type if known.name == outer).nested_type.add(name=inner)
            if inner
            else file.message_type.add(name=outer)
        )
        for number, text in fields.items():
            _add_field(message, path, number, text)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, path: str, number: int, text: str) -> None:
    name, kind = text.split(" ", 1)
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind.startswith("map "):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _set_type(entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL), "string")
        _set_type(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), kind.removeprefix("map "))
        kind = f"{path}.{entry.name}*"
    if kind.endswith("*"):
        field.label = _Field.LABEL_REPEATED
    elif kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    _set_type(field, kind.rstrip("*?"))


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind[0].isupper():
        field.type_name = f".{PACKAGE}.{kind}"
        field.type = _Field.TYPE_ENUM if kind == "DataType" else _Field.TYPE_MESSAGE
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


def _classes() -> Iterator[tuple[str, Any]]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    for name in _MESSAGES:
        yield name, message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


MESSAGES: dict[str, Any] = dict(_classes())
"""The classes by name, such as ``ModelInferRequest``."""
