"""What can be read of the memory of a process, and AES-256 keys found in it by their expanded form."""

import pathlib
import re
import subprocess

import numpy

# ---- Images


def mapped_image(pid):
    """{mapping: bytes} of everything that /proc/PID/mem yields, and the mappings that it refuses. Left out is what is
    mapped from files and cannot be written to: program text."""
    image, refused = {}, []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            start, end = (int(part, 16) for part in span.split("-"))
            if "r" not in rights or line.endswith(("[vvar]", "[vvar_vclock]", "[vsyscall]")):
                continue
            if "w" not in rights and " /" in line:
                continue
            try:
                memory.seek(start)
                image[line] = _without_empty_pages(_read_exactly(memory, end - start))
            except OSError:
                refused.append(line)
    return image, refused


def _without_empty_pages(data):
    """`data` without its pages of nothing but zeros, most of what stacks and heaps are. No key reaches into one."""
    whole = len(data) & ~4095
    pages = numpy.frombuffer(data, "<u8", count=whole // 8).reshape(-1, 512)
    return pages[pages.any(axis=1)].tobytes() + data[whole:]


def _read_exactly(memory, size):
    parts = []
    while size > 0:
        part = memory.read(min(size, 1 << 24))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def core_image(pid, folder):
    """{"core": bytes}: what gdb's gcore writes of a process: all but what is mapped from files and unchanged, and also
    what asked to be left out of cores."""
    target = pathlib.Path(folder) / "core"
    commands = ["set dump-excluded-mappings on", f"attach {pid}", f"gcore {target}",
                "detach"]
    argv = ["gdb", "--batch", "-nx", "--readnever"] + [word for command in commands for word in ("-ex", command)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if not target.exists():
        raise AssertionError(f"gcore of {pid} failed:\n{result.stdout}\n{result.stderr}")
    data = _without_empty_pages(target.read_bytes())
    target.unlink()
    return {"core": data}


class Search:
    """Looks for many byte strings at once: {name: at least 4 bytes}."""

    def __init__(self, needles):
        self._needles = needles
        self._beginnings = [numpy.zeros(1 << 16, dtype=bool) for _ in range(2)]  # of bytes 0, 1 and of bytes 2, 3
        for value in needles.values():
            for table, at in zip(self._beginnings, (0, 2)):
                table[int.from_bytes(value[at:at + 2], "little")] = True

    def names_in(self, data):
        """The names of those that occur in `data`."""
        found = set()
        for at in self._candidates(data):
            found.update(name for name, value in self._needles.items() if data.startswith(value, at))
        return sorted(found, key=str)

    def _candidates(self, data):
        if len(data) < 4:
            return
        pairs = [numpy.frombuffer(data, "<u2", offset=odd, count=(len(data) - odd) // 2) for odd in (0, 1)]
        for odd, values in enumerate(pairs):
            first, second = (table[values] for table in self._beginnings)
            yield from (numpy.flatnonzero(first[:-1] & second[1:]) * 2 + odd).tolist()


def occurrences(needle, data):
    """Where the needle is."""
    return [match.start() for match in re.finditer(re.escape(needle), data)]


# ---- AES-256 key expansion (FIPS 197 §5.2)

_WORDS = 60  # of 4 bytes: 15 round keys


def _sbox():
    """FIPS 197 §5.1.1, from its definition: the inverse in GF(2^8), then an affine map."""
    box = [0] * 256
    p = q = 1
    while True:
        p ^= (p << 1) ^ (0x11B if p & 0x80 else 0)
        p &= 0xFF
        for shift in (1, 2, 4):
            q ^= (q << shift) & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        rotated = q
        value = q
        for _ in range(4):
            rotated = ((rotated << 1) | (rotated >> 7)) & 0xFF
            value ^= rotated
        box[p] = value ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return bytes(box)


SBOX = _sbox()


def expand(key):
    """The 240 bytes of round keys of an AES-256 key, in the order in which encryption uses them."""
    words = [key[i:i + 4] for i in range(0, 32, 4)]
    constant = 1
    for i in range(8, _WORDS):
        word = words[-1]
        if i % 8 == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant <<= 1
        elif i % 8 == 4:
            word = bytes(SBOX[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(words[i - 8], word)))
    return b"".join(words)


def _swapped(data):
    """Every 4 bytes the other way round: how implementations in portable C keep words."""
    return numpy.frombuffer(data, "<u4").byteswap().tobytes()


def _backwards(data):
    """The round keys from the last to the first: how some implementations keep those of decryption."""
    return b"".join(data[at:at + 16] for at in range(len(data) - 16, -1, -16))


def forms(key):
    """The expanded key in each form in which an implementation may keep it. (Round keys that were changed for the
    equivalent inverse cipher are not among them: GCM never decrypts with AES.)"""
    encryption = expand(key)
    return [form for order in (encryption, _backwards(encryption)) for form in (order, _swapped(order))]


def _candidates(words, offsets):
    """Where w[i] = w[i-8] ^ w[i-1] holds for these i, and is not 0 = 0 ^ 0."""
    size = len(words) - 17
    if size <= 0:
        return numpy.zeros(0, dtype=numpy.int64)
    good = words[1:1 + size] != 0
    for i in offsets:
        good &= words[i:i + size] == (words[i - 8:i - 8 + size] ^ words[i - 1:i - 1 + size])
    return numpy.flatnonzero(good)


def schedules(data):
    """{key: [offset]} of every AES-256 key whose 240 bytes of round keys are in `data` at a multiple of 4: in the order
    of encryption or backwards, words in memory order or swapped."""
    found = {}
    usable = len(data) & ~3
    words = numpy.frombuffer(data, "<u4", count=usable // 4)
    # Only words that are a plain XOR of two others are looked at first; both orders of bytes obey that.
    for at in _candidates(words, (9, 10, 11, 13, 14, 15)):
        start = int(at) * 4
        for key in (data[start:start + 32], _swapped(data[start:start + 32])):
            if data[start:start + 240] in (expand(key), _swapped(expand(key))):
                found.setdefault(key, []).append(start)
    # Backwards: the same recurrence inside pairs of round keys that follow each other from high to low addresses.
    for at in _backward_candidates(words):
        start = int(at) * 4 + 4 * 8 - 240
        if start < 0:
            continue
        piece = _backwards(data[start:start + 240])
        for key in (piece[:32], _swapped(piece[:32])):
            if piece in (expand(key), _swapped(expand(key))):
                found.setdefault(key, []).append(start)
    return found


def _backward_candidates(words):
    """Word offsets of round key 1 of a schedule that is kept backwards: ..., k3, k2, k1, k0."""
    # Word j of round key r is w[4r + j]; backwards it is at base + 4 * (1 - r) + j, counted from round key 1.
    pad = 8  # round keys 2 and 3 are up to 8 words before
    size = len(words) - pad - 8
    if size <= 0:
        return numpy.zeros(0, dtype=numpy.int64)

    def word(i):
        begin = pad + 4 * (1 - i // 4) + i % 4
        return words[begin:begin + size]

    good = word(1) != 0
    for i in (9, 10, 11, 13, 14, 15):
        good &= word(i) == (word(i - 8) ^ word(i - 1))
    return numpy.flatnonzero(good) + pad
