"""Why a decision was taken: a closed set. The value is the one word of a table, `sentence` the general meaning."""

import enum


class Reason(enum.StrEnum):
    # nothing to do
    NOT_WANTED = "NotWanted"
    SERVING = "Serving"
    IDLE = "Idle"
    PINNED = "Pinned"
    SLEEPING = "Sleeping"
    HELD_BY_OPERATOR = "HeldByOperator"
    NODE_LOST = "NodeLost"
    # towards ready
    DEMANDED = "Demanded"
    STARTING = "Starting"
    WAKING = "Waking"
    # waiting
    DEVICE_BUSY = "DeviceBusy"
    MAKING_ROOM = "MakingRoom"
    NO_IDLE_VICTIM = "NoIdleVictim"
    ROOM_RESERVED = "RoomReserved"
    DRAINING_OTHERS = "DrainingOthers"
    BACKING_OFF = "BackingOff"
    DEVICE_UNKNOWN = "DeviceUnknown"
    STATE_UNKNOWN = "StateUnknown"
    GOING_DOWN = "GoingDown"
    NO_FREE_ROOM = "NoFreeRoom"
    NODE_AWAITED = "NodeAwaited"
    # never
    CANNOT_FIT = "CannotFit"
    NO_SUCH_DEVICE = "NoSuchDevice"
    NO_SUCH_NODE = "NoSuchNode"
    WOULD_EVICT = "WouldEvict"
    # making room
    EVICTED = "Evicted"
    DRAINED_FOR_WAITER = "DrainedForWaiter"
    RELOCATED = "Relocated"
    # by time or by hand
    IDLE_TOO_LONG = "IdleTooLong"
    ASLEEP_TOO_LONG = "AsleepTooLong"
    HOST_MEMORY_SHORT = "HostMemoryShort"
    RESIDUE_GREW = "ResidueGrew"
    OPERATOR_ASKED = "OperatorAsked"
    DRAINING = "Draining"
    # cleaning up
    SPEC_CHANGED = "SpecChanged"
    REMOVED = "Removed"
    SURPLUS = "Surplus"
    ENGINE_EXITED = "EngineExited"
    ENGINE_BROKEN = "EngineBroken"
    PROBE_DEADLINE = "ProbeDeadline"
    LOAD_STALLED = "LoadStalled"
    ABANDONED = "Abandoned"

    @property
    def sentence(self) -> str:
        """What the reason means in general; a Decision's `message` has the numbers of the case."""
        return _SENTENCES[self]


_SENTENCES: dict[Reason, str] = {
    Reason.NOT_WANTED: "Nobody asks for it, so it stays as it is.",
    Reason.SERVING: "It is ready and has requests in flight.",
    Reason.IDLE: "It is ready and has nothing to do; it stays until its time or somebody's need comes.",
    Reason.PINNED: "It is pinned: always ready, never evicted.",
    Reason.SLEEPING: "It sleeps; a request wakes it.",
    Reason.HELD_BY_OPERATOR: "An operator put it where it is; a request or `vllama start` brings it back.",
    Reason.NODE_LOST: "Its engine, or a part of it, is on a machine that does not answer.",
    Reason.DEMANDED: "It is wanted and its memory is free.",
    Reason.STARTING: "It is wanted and its engine is loading.",
    Reason.WAKING: "It is wanted and its engine is waking up.",
    Reason.DEVICE_BUSY: "It is wanted; another operation holds its device, and vLLM allows one at a time.",
    Reason.MAKING_ROOM: "It is wanted; others are being put aside for it.",
    Reason.NO_IDLE_VICTIM: "It is wanted; what holds the memory is busy, pinned or going through a change.",
    Reason.ROOM_RESERVED: "It is wanted; the free memory belongs to a model that was asked for before.",
    Reason.DRAINING_OTHERS: "It waited past the fairness bound; busy engines take no new requests until it has room.",
    Reason.BACKING_OFF: "It failed before; it is tried again after a pause, if it is still wanted then.",
    Reason.DEVICE_UNKNOWN: "It is wanted; how much memory its devices have free is not known now.",
    Reason.STATE_UNKNOWN: "Its engine does not answer probes; it counts as holding its memory until that is settled.",
    Reason.GOING_DOWN: "It is wanted again while its engine goes down; it comes back when that is done.",
    Reason.NO_FREE_ROOM: "Another engine of its model serves; one more displaces nobody, and waits for free memory.",
    Reason.NODE_AWAITED: "It is wanted; the machine that could take it does not answer, and is waited for.",
    Reason.CANNOT_FIT: "It needs more memory than its devices can ever give it.",
    Reason.NO_SUCH_DEVICE: "It names devices, or a number of devices, that this machine does not have.",
    Reason.NO_SUCH_NODE: "It names a machine that is not there.",
    Reason.WOULD_EVICT: "It is set to be refused rather than to displace others.",
    Reason.EVICTED: "Its memory is needed, and of the idle it is missed least (policy.victims).",
    Reason.DRAINED_FOR_WAITER: "Somebody waits past the fairness bound: new requests queue until those in flight end.",
    Reason.RELOCATED: "It sleeps where it cannot wake, or where others are in its way, and there is room elsewhere.",
    Reason.IDLE_TOO_LONG: "Nobody used it for as long as its `idle.sleep_after`, or a request's `keep_alive`, says.",
    Reason.ASLEEP_TOO_LONG: "Nobody used it for as long as its `idle.stop_after` says.",
    Reason.HOST_MEMORY_SHORT: "The host has too little memory for the copies of sleepers; the coldest gives its up.",
    Reason.RESIDUE_GREW: "Asleep it holds more than twice what it held at first; it is stopped to get that back.",
    Reason.OPERATOR_ASKED: "An operator asked for it.",
    Reason.DRAINING: "It is to go down; it takes no new requests and finishes those in flight.",
    Reason.SPEC_CHANGED: "Its engine settings changed; it restarts alone.",
    Reason.REMOVED: "It is no longer in models.yaml or the model cache.",
    Reason.SURPLUS: "It has more engines than it should.",
    Reason.ENGINE_EXITED: "Its engine ended unasked; what is left of it is cleaned up.",
    Reason.ENGINE_BROKEN: "Its engine failed an operation and cannot be trusted; it is stopped.",
    Reason.PROBE_DEADLINE: "Its engine did not answer probes for too long; it is stopped.",
    Reason.LOAD_STALLED: "Its engine stopped making progress while loading; it is stopped.",
    Reason.ABANDONED: "Whoever waited for it has gone, and its start was not yet half done; it is given up.",
}
