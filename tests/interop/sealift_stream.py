"""One stream at one end, over one connection at a time, without I/O; from docs/protocol.md, "Streams"."""

import collections

from sealift_protocol import (LARGEST_PAYLOAD, AcknowledgementOpener, AcknowledgementSealer, Opener, RecordType,
                              Rejected, Sealer)

RETAINED_RECORDS = 64
ACKNOWLEDGE_EVERY = 8


class Stream:
    """What is to be sent waits here until there is room for another record. What was received stands in `inbox`,
    a list of (type, payload)."""

    def __init__(self, schedule, number, sending):
        self.schedule = schedule
        self.number = number
        self.sending = sending
        self.last_record = b""  # sealed
        self.inbox = []
        self.generation = 0
        self.attached = False
        self.resent = 0  # records
        self.acknowledging = True  # a test may turn it off
        self.sealer = Sealer(schedule, number, sending)
        self.opener = Opener(schedule, number, sending.opposite)
        self._waiting = collections.deque()  # (type, payload)
        self._retained = collections.deque()  # sealed, not acknowledged
        self._final_sealed = False
        self._in = bytearray()
        self._out = bytearray()

    # -- Connections

    def attach(self, generation, peer_next):
        """Begins a connection whose hello is done, at what the peer says it expects next."""
        if not self.acknowledged <= peer_next <= self.sealer.next_sequence:
            raise Rejected(f"the peer expects {peer_next}: not {self.acknowledged} to {self.sealer.next_sequence}")
        self.detach()
        self._release(peer_next)
        self.resent += len(self._retained)
        self._out += b"".join(self._retained)
        self._owed = 0
        self.generation = generation
        self.acknowledgements = AcknowledgementSealer(self.schedule, self.number, self.sending, generation)
        self._acknowledgement_opener = AcknowledgementOpener(self.schedule, self.number, self.sending.opposite,
                                                             generation)
        self.attached = True

    def detach(self):
        self.attached = False
        self._in.clear()
        self._out.clear()

    # -- Sending

    def write(self, data, payload_size=65536):
        for at in range(0, len(data), payload_size):
            self._waiting.append((RecordType.DATA, data[at:at + payload_size]))

    def send(self, record_type, payload=b""):
        assert len(payload) <= LARGEST_PAYLOAD
        self._waiting.append((record_type, payload))

    def end(self):
        self._waiting.append((RecordType.FINAL, b""))

    def outgoing(self):
        """The bytes to write to the connection next; sent() says how many of them were."""
        while self.attached and self._waiting and len(self._retained) < RETAINED_RECORDS:
            kind, payload = self._waiting.popleft()
            self.last_record = self.sealer.seal(kind, payload)
            self._final_sealed = kind == RecordType.FINAL
            self._retained.append(self.last_record)
            self._out += self.last_record
        return self._out

    def sent(self, size):
        del self._out[:size]

    # -- Receiving

    def received(self, data):
        self._in += data
        while len(self._in) >= 2:
            if self._in[1] == RecordType.ACKNOWLEDGEMENT:
                size = self._take_acknowledgement()
            else:
                size = self._take_record()
            if size is None:
                return
            del self._in[:size]

    def _take_acknowledgement(self):
        opened = self._acknowledgement_opener.open(self._in)
        if opened is None:
            return None
        value, size = opened
        if value > self.sealer.next_sequence:
            raise Rejected(f"{value} is acknowledged, {self.sealer.next_sequence} was never sent")
        self._release(value)
        return size

    def _take_record(self):
        opened = self.opener.open(self._in)
        if opened is None:
            return None
        kind, payload, size = opened
        self.inbox.append((kind, payload))
        self._owed += 1
        if self._owed == ACKNOWLEDGE_EVERY or kind != RecordType.DATA:
            self._owed = 0
            if self.acknowledging:
                self._out += self.acknowledgements.seal(self.opener.next_sequence)
        return size

    def _release(self, sequence):
        while self.acknowledged < sequence:
            self._retained.popleft()

    # -- Observers

    @property
    def acknowledged(self):
        """The peer has every record before this one."""
        return self.sealer.next_sequence - len(self._retained)

    @property
    def all_acknowledged(self):
        return not self._waiting and not self._retained

    @property
    def data(self):
        return b"".join(payload for kind, payload in self.inbox if kind == RecordType.DATA)

    @property
    def messages(self):
        return [payload for kind, payload in self.inbox if kind == RecordType.CONTROL]

    @property
    def ended(self):
        return self._final_sealed and self.all_acknowledged and self.opener.ended and not self._out
