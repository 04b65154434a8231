from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeEvent(_message.Message):
    __slots__ = ("hello", "report", "prepared", "task", "deploy", "log", "mask")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    report: NodeReport
    prepared: Prepared
    task: TaskStatus
    deploy: DeployStatus
    log: LogChunk
    mask: MaskWord
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., report: _Optional[_Union[NodeReport, _Mapping]] = ..., prepared: _Optional[_Union[Prepared, _Mapping]] = ..., task: _Optional[_Union[TaskStatus, _Mapping]] = ..., deploy: _Optional[_Union[DeployStatus, _Mapping]] = ..., log: _Optional[_Union[LogChunk, _Mapping]] = ..., mask: _Optional[_Union[MaskWord, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "release", "node_time", "report", "held", "deployed")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    NODE_TIME_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    DEPLOYED_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    release: str
    node_time: float
    report: NodeReport
    held: _containers.RepeatedCompositeFieldContainer[HeldUpdate]
    deployed: _containers.RepeatedCompositeFieldContainer[DeployStatus]
    def __init__(self, protocol: _Optional[int] = ..., release: _Optional[str] = ..., node_time: _Optional[float] = ..., report: _Optional[_Union[NodeReport, _Mapping]] = ..., held: _Optional[_Iterable[_Union[HeldUpdate, _Mapping]]] = ..., deployed: _Optional[_Iterable[_Union[DeployStatus, _Mapping]]] = ...) -> None: ...

class NodeReport(_message.Message):
    __slots__ = ("datasets", "approvals", "environments", "slots", "cpus", "memory_mib", "sandbox", "serving", "devices", "labels", "enforcement")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[DatasetOffer]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    environments: _containers.RepeatedScalarFieldContainer[str]
    slots: int
    cpus: int
    memory_mib: int
    sandbox: str
    serving: str
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    labels: _containers.RepeatedScalarFieldContainer[str]
    enforcement: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, datasets: _Optional[_Iterable[_Union[DatasetOffer, _Mapping]]] = ..., approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., environments: _Optional[_Iterable[str]] = ..., slots: _Optional[int] = ..., cpus: _Optional[int] = ..., memory_mib: _Optional[int] = ..., sandbox: _Optional[str] = ..., serving: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ..., enforcement: _Optional[_Iterable[str]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("uuid", "kind", "name", "memory_mib", "parent", "profile", "used_mib", "busy_percent")
    UUID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    USED_MIB_FIELD_NUMBER: _ClassVar[int]
    BUSY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    kind: str
    name: str
    memory_mib: int
    parent: str
    profile: str
    used_mib: int
    busy_percent: int
    def __init__(self, uuid: _Optional[str] = ..., kind: _Optional[str] = ..., name: _Optional[str] = ..., memory_mib: _Optional[int] = ..., parent: _Optional[str] = ..., profile: _Optional[str] = ..., used_mib: _Optional[int] = ..., busy_percent: _Optional[int] = ...) -> None: ...

class Slice(_message.Message):
    __slots__ = ("device", "milli", "mib")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MILLI_FIELD_NUMBER: _ClassVar[int]
    MIB_FIELD_NUMBER: _ClassVar[int]
    device: str
    milli: int
    mib: int
    def __init__(self, device: _Optional[str] = ..., milli: _Optional[int] = ..., mib: _Optional[int] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class DatasetOffer(_message.Message):
    __slots__ = ("federation", "name", "format", "rows", "digest", "columns")
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    federation: str
    name: str
    format: str
    rows: int
    digest: str
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    def __init__(self, federation: _Optional[str] = ..., name: _Optional[str] = ..., format: _Optional[str] = ..., rows: _Optional[int] = ..., digest: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("federation", "app_digest")
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    APP_DIGEST_FIELD_NUMBER: _ClassVar[int]
    federation: str
    app_digest: str
    def __init__(self, federation: _Optional[str] = ..., app_digest: _Optional[str] = ...) -> None: ...

class HeldUpdate(_message.Message):
    __slots__ = ("task", "digest", "size", "content")
    TASK_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    task: str
    digest: str
    size: int
    content: str
    def __init__(self, task: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ..., content: _Optional[str] = ...) -> None: ...

class Denial(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Prepared(_message.Message):
    __slots__ = ("job", "denials")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DENIALS_FIELD_NUMBER: _ClassVar[int]
    job: str
    denials: _containers.RepeatedCompositeFieldContainer[Denial]
    def __init__(self, job: _Optional[str] = ..., denials: _Optional[_Iterable[_Union[Denial, _Mapping]]] = ...) -> None: ...

class TaskStatus(_message.Message):
    __slots__ = ("task", "state", "reason", "message", "digest", "size", "denials", "enforcement", "held_s", "peak_mib")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[TaskStatus.State]
        ACCEPTED: _ClassVar[TaskStatus.State]
        RUNNING: _ClassVar[TaskStatus.State]
        READY: _ClassVar[TaskStatus.State]
        FAILED: _ClassVar[TaskStatus.State]
        DENIED: _ClassVar[TaskStatus.State]
    UNKNOWN: TaskStatus.State
    ACCEPTED: TaskStatus.State
    RUNNING: TaskStatus.State
    READY: TaskStatus.State
    FAILED: TaskStatus.State
    DENIED: TaskStatus.State
    TASK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DENIALS_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    HELD_S_FIELD_NUMBER: _ClassVar[int]
    PEAK_MIB_FIELD_NUMBER: _ClassVar[int]
    task: str
    state: TaskStatus.State
    reason: str
    message: str
    digest: str
    size: int
    denials: _containers.RepeatedCompositeFieldContainer[Denial]
    enforcement: _containers.RepeatedScalarFieldContainer[str]
    held_s: float
    peak_mib: int
    def __init__(self, task: _Optional[str] = ..., state: _Optional[_Union[TaskStatus.State, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ..., denials: _Optional[_Iterable[_Union[Denial, _Mapping]]] = ..., enforcement: _Optional[_Iterable[str]] = ..., held_s: _Optional[float] = ..., peak_mib: _Optional[int] = ...) -> None: ...

class DeployStatus(_message.Message):
    __slots__ = ("model", "version", "manifest", "state", "message", "url")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[DeployStatus.State]
        FETCHING: _ClassVar[DeployStatus.State]
        SERVING: _ClassVar[DeployStatus.State]
        FAILED: _ClassVar[DeployStatus.State]
        REMOVED: _ClassVar[DeployStatus.State]
    UNKNOWN: DeployStatus.State
    FETCHING: DeployStatus.State
    SERVING: DeployStatus.State
    FAILED: DeployStatus.State
    REMOVED: DeployStatus.State
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    manifest: str
    state: DeployStatus.State
    message: str
    url: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., manifest: _Optional[str] = ..., state: _Optional[_Union[DeployStatus.State, str]] = ..., message: _Optional[str] = ..., url: _Optional[str] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("job", "text")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    job: str
    text: str
    def __init__(self, job: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class CoordinatorEvent(_message.Message):
    __slots__ = ("welcome", "prepare", "task", "cancel", "closed", "ended", "deploy", "undeploy", "farewell", "mask")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    UNDEPLOY_FIELD_NUMBER: _ClassVar[int]
    FAREWELL_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    prepare: Prepare
    task: TaskOffer
    cancel: TaskCancel
    closed: ExchangeClosed
    ended: JobEnded
    deploy: Deploy
    undeploy: Undeploy
    farewell: Farewell
    mask: MaskOrder
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., prepare: _Optional[_Union[Prepare, _Mapping]] = ..., task: _Optional[_Union[TaskOffer, _Mapping]] = ..., cancel: _Optional[_Union[TaskCancel, _Mapping]] = ..., closed: _Optional[_Union[ExchangeClosed, _Mapping]] = ..., ended: _Optional[_Union[JobEnded, _Mapping]] = ..., deploy: _Optional[_Union[Deploy, _Mapping]] = ..., undeploy: _Optional[_Union[Undeploy, _Mapping]] = ..., farewell: _Optional[_Union[Farewell, _Mapping]] = ..., mask: _Optional[_Union[MaskOrder, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "release", "coordinator_time", "node", "tenant", "name", "certificate_until", "running_jobs")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_TIME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_UNTIL_FIELD_NUMBER: _ClassVar[int]
    RUNNING_JOBS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    release: str
    coordinator_time: float
    node: str
    tenant: str
    name: str
    certificate_until: float
    running_jobs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol: _Optional[int] = ..., release: _Optional[str] = ..., coordinator_time: _Optional[float] = ..., node: _Optional[str] = ..., tenant: _Optional[str] = ..., name: _Optional[str] = ..., certificate_until: _Optional[float] = ..., running_jobs: _Optional[_Iterable[str]] = ...) -> None: ...

class ContentRef(_message.Message):
    __slots__ = ("digest", "size")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size: int
    def __init__(self, digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Prepare(_message.Message):
    __slots__ = ("job", "federation", "owner_tenant", "submitted_by", "app_digest", "bundle", "spec", "app_name", "individual")
    JOB_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    OWNER_TENANT_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_BY_FIELD_NUMBER: _ClassVar[int]
    APP_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    APP_NAME_FIELD_NUMBER: _ClassVar[int]
    INDIVIDUAL_FIELD_NUMBER: _ClassVar[int]
    job: str
    federation: str
    owner_tenant: str
    submitted_by: str
    app_digest: str
    bundle: ContentRef
    spec: str
    app_name: str
    individual: bool
    def __init__(self, job: _Optional[str] = ..., federation: _Optional[str] = ..., owner_tenant: _Optional[str] = ..., submitted_by: _Optional[str] = ..., app_digest: _Optional[str] = ..., bundle: _Optional[_Union[ContentRef, _Mapping]] = ..., spec: _Optional[str] = ..., app_name: _Optional[str] = ..., individual: _Optional[bool] = ...) -> None: ...

class TaskOffer(_message.Message):
    __slots__ = ("task", "job", "seq", "slot", "message_type", "content", "run_id", "flower_node_id", "partition_id", "num_partitions", "group_id", "message_id", "lease_s", "seed", "max_weight", "fold", "ttl_s", "lease", "tenant", "slices", "cpu_milli", "ram_mib", "base", "mask")
    TASK_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FLOWER_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FOLD_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    RAM_MIB_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    job: str
    seq: int
    slot: int
    message_type: str
    content: ContentRef
    run_id: int
    flower_node_id: int
    partition_id: int
    num_partitions: int
    group_id: str
    message_id: str
    lease_s: float
    seed: int
    max_weight: float
    fold: bool
    ttl_s: float
    lease: str
    tenant: str
    slices: _containers.RepeatedCompositeFieldContainer[Slice]
    cpu_milli: int
    ram_mib: int
    base: ContentRef
    mask: MaskTerms
    def __init__(self, task: _Optional[str] = ..., job: _Optional[str] = ..., seq: _Optional[int] = ..., slot: _Optional[int] = ..., message_type: _Optional[str] = ..., content: _Optional[_Union[ContentRef, _Mapping]] = ..., run_id: _Optional[int] = ..., flower_node_id: _Optional[int] = ..., partition_id: _Optional[int] = ..., num_partitions: _Optional[int] = ..., group_id: _Optional[str] = ..., message_id: _Optional[str] = ..., lease_s: _Optional[float] = ..., seed: _Optional[int] = ..., max_weight: _Optional[float] = ..., fold: _Optional[bool] = ..., ttl_s: _Optional[float] = ..., lease: _Optional[str] = ..., tenant: _Optional[str] = ..., slices: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., cpu_milli: _Optional[int] = ..., ram_mib: _Optional[int] = ..., base: _Optional[_Union[ContentRef, _Mapping]] = ..., mask: _Optional[_Union[MaskTerms, _Mapping]] = ...) -> None: ...

class TaskCancel(_message.Message):
    __slots__ = ("task", "reason")
    TASK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task: str
    reason: str
    def __init__(self, task: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ExchangeClosed(_message.Message):
    __slots__ = ("job", "seq")
    JOB_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    job: str
    seq: int
    def __init__(self, job: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class JobEnded(_message.Message):
    __slots__ = ("job", "state")
    JOB_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    job: str
    state: str
    def __init__(self, job: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class Deploy(_message.Message):
    __slots__ = ("model", "version", "manifest", "federation", "alias")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    manifest: ContentRef
    federation: str
    alias: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., manifest: _Optional[_Union[ContentRef, _Mapping]] = ..., federation: _Optional[str] = ..., alias: _Optional[str] = ...) -> None: ...

class Undeploy(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Farewell(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class MaskTerms(_message.Message):
    __slots__ = ("attempt", "ring", "range_bits", "weight_bits")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    RANGE_BITS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BITS_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    ring: int
    range_bits: int
    weight_bits: int
    def __init__(self, attempt: _Optional[int] = ..., ring: _Optional[int] = ..., range_bits: _Optional[int] = ..., weight_bits: _Optional[int] = ...) -> None: ...

class MaskAdvert(_message.Message):
    __slots__ = ("node", "tenant", "mask_key", "seal_key", "layout", "range_bits", "weight_bits", "certificate", "signature")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    SEAL_KEY_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    RANGE_BITS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BITS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    node: str
    tenant: str
    mask_key: bytes
    seal_key: bytes
    layout: str
    range_bits: int
    weight_bits: int
    certificate: bytes
    signature: bytes
    def __init__(self, node: _Optional[str] = ..., tenant: _Optional[str] = ..., mask_key: _Optional[bytes] = ..., seal_key: _Optional[bytes] = ..., layout: _Optional[str] = ..., range_bits: _Optional[int] = ..., weight_bits: _Optional[int] = ..., certificate: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class MaskWord(_message.Message):
    __slots__ = ("task", "attempt", "advertised", "shares", "signed", "answers", "refusal")
    class Advertised(_message.Message):
        __slots__ = ("advert", "layout")
        ADVERT_FIELD_NUMBER: _ClassVar[int]
        LAYOUT_FIELD_NUMBER: _ClassVar[int]
        advert: MaskAdvert
        layout: bytes
        def __init__(self, advert: _Optional[_Union[MaskAdvert, _Mapping]] = ..., layout: _Optional[bytes] = ...) -> None: ...
    class Shares(_message.Message):
        __slots__ = ("sealed", "commitment")
        SEALED_FIELD_NUMBER: _ClassVar[int]
        COMMITMENT_FIELD_NUMBER: _ClassVar[int]
        sealed: _containers.RepeatedCompositeFieldContainer[MaskSealed]
        commitment: bytes
        def __init__(self, sealed: _Optional[_Iterable[_Union[MaskSealed, _Mapping]]] = ..., commitment: _Optional[bytes] = ...) -> None: ...
    class Signed(_message.Message):
        __slots__ = ("signature",)
        SIGNATURE_FIELD_NUMBER: _ClassVar[int]
        signature: bytes
        def __init__(self, signature: _Optional[bytes] = ...) -> None: ...
    class Answers(_message.Message):
        __slots__ = ("shares",)
        SHARES_FIELD_NUMBER: _ClassVar[int]
        shares: _containers.RepeatedCompositeFieldContainer[MaskShare]
        def __init__(self, shares: _Optional[_Iterable[_Union[MaskShare, _Mapping]]] = ...) -> None: ...
    TASK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ADVERTISED_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    task: str
    attempt: int
    advertised: MaskWord.Advertised
    shares: MaskWord.Shares
    signed: MaskWord.Signed
    answers: MaskWord.Answers
    refusal: Denial
    def __init__(self, task: _Optional[str] = ..., attempt: _Optional[int] = ..., advertised: _Optional[_Union[MaskWord.Advertised, _Mapping]] = ..., shares: _Optional[_Union[MaskWord.Shares, _Mapping]] = ..., signed: _Optional[_Union[MaskWord.Signed, _Mapping]] = ..., answers: _Optional[_Union[MaskWord.Answers, _Mapping]] = ..., refusal: _Optional[_Union[Denial, _Mapping]] = ...) -> None: ...

class MaskOrder(_message.Message):
    __slots__ = ("task", "attempt", "roster", "delivery", "survivors", "open")
    class Roster(_message.Message):
        __slots__ = ("adverts",)
        ADVERTS_FIELD_NUMBER: _ClassVar[int]
        adverts: _containers.RepeatedCompositeFieldContainer[MaskAdvert]
        def __init__(self, adverts: _Optional[_Iterable[_Union[MaskAdvert, _Mapping]]] = ...) -> None: ...
    class Delivery(_message.Message):
        __slots__ = ("sharers", "sealed")
        SHARERS_FIELD_NUMBER: _ClassVar[int]
        SEALED_FIELD_NUMBER: _ClassVar[int]
        sharers: _containers.RepeatedScalarFieldContainer[str]
        sealed: _containers.RepeatedCompositeFieldContainer[MaskSealed]
        def __init__(self, sharers: _Optional[_Iterable[str]] = ..., sealed: _Optional[_Iterable[_Union[MaskSealed, _Mapping]]] = ...) -> None: ...
    class Survivors(_message.Message):
        __slots__ = ("kept", "lost")
        KEPT_FIELD_NUMBER: _ClassVar[int]
        LOST_FIELD_NUMBER: _ClassVar[int]
        kept: _containers.RepeatedScalarFieldContainer[str]
        lost: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, kept: _Optional[_Iterable[str]] = ..., lost: _Optional[_Iterable[str]] = ...) -> None: ...
    class Open(_message.Message):
        __slots__ = ("survivors", "signatures")
        SURVIVORS_FIELD_NUMBER: _ClassVar[int]
        SIGNATURES_FIELD_NUMBER: _ClassVar[int]
        survivors: MaskOrder.Survivors
        signatures: _containers.RepeatedCompositeFieldContainer[MaskSealed]
        def __init__(self, survivors: _Optional[_Union[MaskOrder.Survivors, _Mapping]] = ..., signatures: _Optional[_Iterable[_Union[MaskSealed, _Mapping]]] = ...) -> None: ...
    TASK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    task: str
    attempt: int
    roster: MaskOrder.Roster
    delivery: MaskOrder.Delivery
    survivors: MaskOrder.Survivors
    open: MaskOrder.Open
    def __init__(self, task: _Optional[str] = ..., attempt: _Optional[int] = ..., roster: _Optional[_Union[MaskOrder.Roster, _Mapping]] = ..., delivery: _Optional[_Union[MaskOrder.Delivery, _Mapping]] = ..., survivors: _Optional[_Union[MaskOrder.Survivors, _Mapping]] = ..., open: _Optional[_Union[MaskOrder.Open, _Mapping]] = ...) -> None: ...

class MaskSealed(_message.Message):
    __slots__ = ("node", "data")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    node: str
    data: bytes
    def __init__(self, node: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class MaskShare(_message.Message):
    __slots__ = ("about", "share")
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    about: str
    share: bytes
    def __init__(self, about: _Optional[str] = ..., share: _Optional[bytes] = ...) -> None: ...

class MaskRecord(_message.Message):
    __slots__ = ("job", "seq", "attempt", "content", "spec", "ring", "node", "roster", "sharers", "held", "commitments", "vectors", "layout")
    class Held(_message.Message):
        __slots__ = ("node", "self_mask", "mask_key")
        NODE_FIELD_NUMBER: _ClassVar[int]
        SELF_MASK_FIELD_NUMBER: _ClassVar[int]
        MASK_KEY_FIELD_NUMBER: _ClassVar[int]
        node: str
        self_mask: bytes
        mask_key: bytes
        def __init__(self, node: _Optional[str] = ..., self_mask: _Optional[bytes] = ..., mask_key: _Optional[bytes] = ...) -> None: ...
    JOB_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SHARERS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    COMMITMENTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    job: str
    seq: int
    attempt: int
    content: str
    spec: str
    ring: int
    node: str
    roster: MaskOrder.Roster
    sharers: _containers.RepeatedScalarFieldContainer[str]
    held: _containers.RepeatedCompositeFieldContainer[MaskRecord.Held]
    commitments: _containers.RepeatedCompositeFieldContainer[MaskSealed]
    vectors: _containers.RepeatedCompositeFieldContainer[MaskSealed]
    layout: bytes
    def __init__(self, job: _Optional[str] = ..., seq: _Optional[int] = ..., attempt: _Optional[int] = ..., content: _Optional[str] = ..., spec: _Optional[str] = ..., ring: _Optional[int] = ..., node: _Optional[str] = ..., roster: _Optional[_Union[MaskOrder.Roster, _Mapping]] = ..., sharers: _Optional[_Iterable[str]] = ..., held: _Optional[_Iterable[_Union[MaskRecord.Held, _Mapping]]] = ..., commitments: _Optional[_Iterable[_Union[MaskSealed, _Mapping]]] = ..., vectors: _Optional[_Iterable[_Union[MaskSealed, _Mapping]]] = ..., layout: _Optional[bytes] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("digest", "offset", "job", "model")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    digest: str
    offset: int
    job: str
    model: str
    def __init__(self, digest: _Optional[str] = ..., offset: _Optional[int] = ..., job: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class UploadKey(_message.Message):
    __slots__ = ("task", "digest", "size")
    TASK_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    task: str
    digest: str
    size: int
    def __init__(self, task: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class UploadOffset(_message.Message):
    __slots__ = ("offset", "done")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    offset: int
    done: bool
    def __init__(self, offset: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class UploadResult(_message.Message):
    __slots__ = ("accepted", "code", "message")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    code: str
    message: str
    def __init__(self, accepted: _Optional[bool] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr",)
    CSR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    def __init__(self, csr: _Optional[bytes] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("certificate", "until", "generation")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    until: float
    generation: int
    def __init__(self, certificate: _Optional[bytes] = ..., until: _Optional[float] = ..., generation: _Optional[int] = ...) -> None: ...
