#!/usr/bin/python3
"""The test guest itself: every other end-to-end test believes what it says, so it is tested first."""

import mmap
import re
import socket
import struct

import guest
import harness
from guest import check_journal

BOOT_SECONDS = 60
PAGE = 4096
PAGE_MAGIC = b"SLFTPAGE"  # tests/guest/memory.c
CANARY = "00112233445566778899aabbccddeeff"


class GuestMemory:
    """The RAM of a Vm whose memory_file is `path`, as its QEMU sees it."""

    def __init__(self, path):
        with open(path, "r+b") as file:
            self._bytes = mmap.mmap(file.fileno(), 0)

    def filled_pages(self):
        """The offsets of the pages that the guest filled."""
        return [offset for offset in range(0, len(self._bytes), PAGE)
                if self._bytes[offset:offset + len(PAGE_MAGIC)] == PAGE_MAGIC]

    def read(self, offset=0, size=None):
        return self._bytes[offset:offset + size if size else None]

    def write(self, offset, data):
        self._bytes[offset:offset + len(data)] = data


class GuestTestCase(harness.TestCase):
    def boot(self, append="", name="vm", **options):
        machine = guest.start(self, name, append, **options)
        machine.console.wait_line("READY", BOOT_SECONDS)
        return machine

    def boot_with_open_memory(self, append, **options):
        path = self.dir / "memory"
        return self.boot(append, memory_mib=128, memory_file=path, **options), GuestMemory(path)

    def make_disk(self, size=4 << 20):
        disk = self.dir / "disk.img"
        with open(disk, "wb") as file:
            file.truncate(size)
        return disk

    def verify(self, machine):
        return machine.console.ask("verify", "verify .*", 30).group()

    def assert_powers_off(self, machine):
        machine.qmp.wait_event("SHUTDOWN", 20)
        self.assertEqual(machine.process.wait(20), 0)


class Memory(GuestTestCase):
    def test_damage_is_noticed(self):
        machine, memory = self.boot_with_open_memory(f"guest.fill=16 guest.canary={CANARY}",
                                                     cpu="max")
        pages = memory.filled_pages()
        self.assertEqual(self.verify(machine), f"verify ok pages={len(pages)}")
        self.check_canary(memory, pages)
        self.check_changed_bits(machine, memory, pages)
        self.check_swapped_pages(machine, memory, pages)
        self.assertEqual(self.verify(machine), f"verify ok pages={len(pages)}")
        machine.console.wait_line(r"bad page=\d+ corrupt", 5)
        self.assertGreaterEqual(machine.console.status()["bad"], 5)

    def check_canary(self, memory, pages):
        marker = bytes.fromhex(CANARY) + b"SEALIFT-CANARY-" + CANARY.encode()
        marked = [offset for offset in pages if marker in memory.read(offset, PAGE)]
        self.assertEqual(len(marked), len(pages) // 64)

    def check_changed_bits(self, machine, memory, pages):
        places = [pages[1] + PAGE // 2, pages[2] + 16, pages[3] + PAGE - 1, pages[64] + 40]
        self.flip(memory, places)
        self.assertEqual(self.verify(machine),
                         f"verify BAD pages={len(pages)} stale=0 corrupt={len(places)}")
        self.flip(memory, places)

    def flip(self, memory, places):
        for place in places:
            memory.write(place, bytes([memory.read(place, 1)[0] ^ 1]))

    def check_swapped_pages(self, machine, memory, pages):
        self.swap(memory, pages[1], pages[2])
        self.assertEqual(self.verify(machine), f"verify BAD pages={len(pages)} stale=0 corrupt=2")
        self.swap(memory, pages[1], pages[2])

    def swap(self, memory, first, second):
        copy = memory.read(first, PAGE)
        memory.write(first, memory.read(second, PAGE))
        memory.write(second, copy)

    def test_pages_are_rewritten_at_the_rate_asked_for_and_old_ones_are_noticed(self):
        machine, memory = self.boot_with_open_memory("guest.fill=16 guest.dirty=2")
        self.assertNotIn(b"SEALIFT-CANARY-0", memory.read())
        old = {offset: memory.read(offset, PAGE) for offset in memory.filled_pages()}
        before = machine.console.status()
        machine.console.wait_line(r"tick \d+ mono=[\d.]+ dirty=\d{4,} verified=[1-9]\d* bad=0 ", 30)
        after = machine.console.status()
        rate = (after["dirty"] - before["dirty"]) * PAGE / (after["mono"] - before["mono"])
        self.assertAlmostEqual(rate / 1e6, 2, delta=0.7)
        for offset, content in old.items():
            memory.write(offset, content)
        self.assertRegex(self.verify(machine), r"verify BAD pages=4096 stale=[1-9]\d* corrupt=\d+")

    def test_more_than_there_is_ends_the_guest_with_a_message(self):
        machine = guest.start(self, "vm", "guest.fill=4096")
        machine.console.wait_line("FATAL: guest.fill=4096 leaves too little", BOOT_SECONDS)
        self.assert_powers_off(machine)


class Devices(GuestTestCase):
    def test_the_network_answers_and_the_acpi_button_powers_off(self):
        echo, counter = harness.free_port(), harness.free_port()
        machine = self.boot("guest.ip=10.0.2.15/24", forwards={echo: 7, counter: 7777})
        with socket.create_connection(("127.0.0.1", echo), 20) as connection:
            connection.sendall(b"hello")
            self.assertEqual(connection.recv(5, socket.MSG_WAITALL), b"hello")
        with socket.create_connection(("127.0.0.1", counter), 20) as connection:
            with connection.makefile() as lines:
                self.assertEqual([int(lines.readline()) for _ in range(20)], list(range(1, 21)))
        machine.qmp.command("system_powerdown")
        machine.console.wait_line("acpi power button: powering off", 20)
        self.assert_powers_off(machine)

    def test_beacons_count_on(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.settimeout(BOOT_SECONDS)
            self.boot(f"guest.ip=10.0.2.15/24 guest.beacon=10.0.2.2:{listener.getsockname()[1]}", forwards={})
            beacons = [struct.unpack("<QQQ", listener.recv(64)) for _ in range(100)]
        numbers, loops, times = zip(*beacons)
        self.assertEqual(list(numbers), list(range(numbers[0], numbers[0] + 100)))
        self.assertGreater(loops[-1], loops[0])
        self.assertGreaterEqual(times[-1] - times[0], 99 * 1_000_000)  # 2 ms each; a late one is followed at once

    def test_a_misspelt_option_ends_the_guest_with_a_message(self):
        machine = guest.start(self, "vm", "guest.fil=1")
        machine.console.wait_line("FATAL: unknown option guest.fil", BOOT_SECONDS)
        self.assert_powers_off(machine)


class Journal(GuestTestCase):
    def test_is_on_the_disk_and_goes_on_after_a_reboot(self):
        disk = self.make_disk()
        for boots in (1, 2):
            machine = self.boot("guest.journal=1", disk=disk)
            machine.console.wait_line("tick 2 ", 20)
            written = machine.console.status()["journal"]
            machine.console.send("poweroff")
            self.assert_powers_off(machine)
            journal = check_journal.check(disk)
            self.assertGreaterEqual(journal.records, written)
            self.assertGreater(written, 10)
            self.assertEqual(journal.boots, boots)
        self.check_damaged_journals(disk)

    def check_damaged_journals(self, disk):
        good = disk.read_bytes()
        second, third = good[512:1024], good[1024:1536]
        for damage in (bytes(512), third, second[:100] + b"x" + second[101:]):
            disk.write_bytes(good[:512] + damage + good[1024:])
            with self.assertRaisesRegex(check_journal.JournalError, "record 2: "):
                check_journal.check(disk)

    def test_a_failed_write_ends_the_guest_with_a_message(self):
        machine = guest.start(self, "vm", "guest.journal=1", disk=self.make_disk(4096))
        machine.console.wait_line("FATAL: journal: write of record 9 failed", BOOT_SECONDS)
        self.assert_powers_off(machine)


class Migration(GuestTestCase):
    def test_memory_ticks_and_journal_survive_a_move_between_two_qemus(self):
        append, disk = "guest.fill=64 guest.dirty=8 guest.journal=1", self.make_disk()
        source = self.boot(append, "source", disk=disk)
        source.console.wait_line("tick 2 ", 20)
        target = guest.start(self, "target", append, disk=disk, incoming=True)
        self.migrate(source, target)
        last = int(re.findall(r"tick (\d+) ", source.console.text())[-1])
        target.console.wait_line(f"tick {last + 1} .* bad=0 ", 20)
        self.assertEqual(self.verify(target), "verify ok pages=16384")
        target.console.send("poweroff")
        self.assert_powers_off(target)
        self.assertEqual(check_journal.check(disk).boots, 1)

    def migrate(self, source, target):
        channel = f"unix:{self.dir}/channel"
        for machine in (source, target):
            machine.qmp.command("migrate-set-capabilities", capabilities=[
                {"capability": name, "state": True}
                for name in ("events", "return-path", "late-block-activate")])
        target.qmp.command("migrate-incoming", uri=channel)
        source.qmp.command("migrate", uri=channel)
        source.qmp.wait_event("MIGRATION", 60, status="completed")
        source.process.kill()
        target.qmp.wait_event("MIGRATION", 20, status="completed")
        target.qmp.command("cont")


if __name__ == "__main__":
    harness.main()
