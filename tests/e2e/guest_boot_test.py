#!/usr/bin/python3
"""The test guest itself: every other end-to-end test believes what it says, so it is tested first."""

import mmap
import re
import socket

import guest
import harness

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

    def boot_with_open_memory(self, append):
        path = self.dir / "memory"
        return self.boot(append, memory_mib=128, memory_file=path), GuestMemory(path)

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
    def test_is_filled_rewritten_and_verified_on_an_old_cpu(self):
        machine = self.boot("guest.fill=64 guest.dirty=8", cpu="Westmere")
        self.assertEqual(self.verify(machine), "verify ok pages=16384")
        machine.console.wait_line(r"tick \d+ mono=[\d.]+ dirty=[1-9]\d* verified=[1-9]\d* bad=0 ", 60)

    def test_is_rewritten_at_the_rate_asked_for(self):
        console = self.boot("guest.fill=64 guest.dirty=8").console
        before = console.status()
        for _ in range(4):
            console.wait_line("tick", 20, after=console.position())
        after = console.status()
        rate = (after["dirty"] - before["dirty"]) * PAGE / (after["mono"] - before["mono"])
        self.assertAlmostEqual(rate / 1e6, 8, delta=3)

    def test_holds_the_canary_as_raw_bytes(self):
        _, memory = self.boot_with_open_memory(f"guest.fill=16 guest.canary={CANARY}")
        self.assertGreaterEqual(memory.read().count(bytes.fromhex(CANARY)), 64)
        self.assertGreaterEqual(memory.read().count(b"SEALIFT-CANARY-" + CANARY.encode()), 64)

    def test_holds_no_canary_unless_asked(self):
        _, memory = self.boot_with_open_memory("guest.fill=16")
        self.assertNotIn(b"SEALIFT-CANARY-0", memory.read())

    def test_damage_is_noticed(self):
        machine, memory = self.boot_with_open_memory("guest.fill=16")
        pages = memory.filled_pages()
        self.assertEqual(len(pages), 16 << 20 >> 12)
        for index, place in ((1, 2048), (2, 16), (3, PAGE - 1)):
            offset = pages[index] + place
            memory.write(offset, bytes([memory.read(offset, 1)[0] ^ 1]))
        self.assertEqual(self.verify(machine), "verify BAD pages=4096 stale=0 corrupt=3")

    def test_swapped_pages_are_noticed(self):
        machine, memory = self.boot_with_open_memory("guest.fill=16")
        first, second = memory.filled_pages()[:2]
        copy = memory.read(first, PAGE)
        memory.write(first, memory.read(second, PAGE))
        memory.write(second, copy)
        self.assertEqual(self.verify(machine), "verify BAD pages=4096 stale=0 corrupt=2")

    def test_pages_of_an_earlier_time_are_noticed(self):
        machine, memory = self.boot_with_open_memory("guest.fill=16 guest.dirty=1")
        old = {offset: memory.read(offset, PAGE) for offset in memory.filled_pages()}
        machine.console.wait_line(r"tick \d+ mono=[\d.]+ dirty=\d{3,}", 30)
        newer = [offset for offset in old if memory.read(offset, PAGE) != old[offset]]
        for offset in newer:
            memory.write(offset, old[offset])
        self.assertRegex(self.verify(machine), r"verify BAD pages=4096 stale=[1-9]\d* corrupt=0")

    def test_more_than_there_is_ends_the_guest_with_a_message(self):
        machine = guest.start(self, "vm", "guest.fill=4096")
        machine.console.wait_line("FATAL: guest.fill=4096 leaves too little", BOOT_SECONDS)
        self.assert_powers_off(machine)


class Power(GuestTestCase):
    def test_the_acpi_button_powers_off(self):
        machine = self.boot()
        machine.qmp.command("system_powerdown")
        machine.console.wait_line("acpi power button: powering off", 20)
        self.assert_powers_off(machine)

    def test_the_poweroff_command_powers_off(self):
        machine = self.boot()
        machine.console.send("poweroff")
        self.assert_powers_off(machine)

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
            journal = guest.check_journal.check(disk)
            self.assertGreaterEqual(journal.records, written)
            self.assertGreater(written, 10)
            self.assertEqual(journal.boots, boots)

    def test_the_checker_notices_a_lost_repeated_or_damaged_record(self):
        disk = self.make_disk()
        machine = self.boot("guest.journal=1", disk=disk)
        machine.console.wait_line("tick 2 ", 20)
        machine.process.kill()
        good = disk.read_bytes()
        second, third = good[512:1024], good[1024:1536]
        for damage in (bytes(512), third, second[:100] + b"x" + second[101:]):
            disk.write_bytes(good[:512] + damage + good[1024:])
            with self.assertRaisesRegex(guest.check_journal.JournalError, "record 2: "):
                guest.check_journal.check(disk)

    def test_a_failed_write_ends_the_guest_with_a_message(self):
        machine = guest.start(self, "vm", "guest.journal=1", disk=self.make_disk(4096))
        machine.console.wait_line("FATAL: journal: write of record 9 failed", BOOT_SECONDS)
        self.assert_powers_off(machine)


class Network(GuestTestCase):
    def test_echo_and_counter_servers_answer(self):
        echo, counter = harness.free_port(), harness.free_port()
        self.boot("guest.ip=10.0.2.15/24", forwards={echo: 7, counter: 7777})
        with socket.create_connection(("127.0.0.1", echo), 20) as connection:
            connection.sendall(b"hello")
            self.assertEqual(connection.recv(5, socket.MSG_WAITALL), b"hello")
        with socket.create_connection(("127.0.0.1", counter), 20) as connection:
            with connection.makefile() as lines:
                self.assertEqual([int(lines.readline()) for _ in range(20)], list(range(1, 21)))


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
        self.assertEqual(guest.check_journal.check(disk).boots, 1)

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
