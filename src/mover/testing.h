// What tests of the mover share: a migration with a known key, and pairs of sockets.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/unique_fd.h"
#include "keys/key_schedule.h"
#include "keys/migration_spec.h"
#include "keys/testing.h"

namespace sealift::mover::testing {

// Long enough for a loaded machine; a test that waits this long has failed.
inline constexpr std::chrono::seconds kPatience{20};

inline keys::MigrationSpec Spec(keys::Protection protection, std::uint16_t streams) {
  keys::MigrationSpec spec;
  spec.id.fill(std::byte{0x5a});
  spec.vm = "web";
  spec.source = "spiffe://sealift/host/a";
  spec.destination = "spiffe://sealift/host/b";
  spec.protection = protection;
  spec.streams = streams;
  return spec;
}

inline keys::MigrationKey Key(std::uint8_t first = 1) {
  keys::testing::CountingRandom random(first);
  return keys::MigrationKey::Generate(random).value();
}

inline keys::KeySchedule Schedule(const keys::MigrationSpec& spec, std::uint8_t key = 1) {
  return keys::KeySchedule::Create(Key(key), keys::HashSpec(spec)).value();
}

struct SocketPair {
  explicit SocketPair(int type = SOCK_STREAM) {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
    a.reset(fds[0]);
    b.reset(fds[1]);
  }
  base::UniqueFd a;
  base::UniqueFd b;
};

// Waits until `fd` can be read (data or end of file); false after kPatience.
inline bool Readable(int fd, std::chrono::milliseconds patience = kPatience) {
  pollfd wait{fd, POLLIN, 0};
  return poll(&wait, 1, static_cast<int>(patience.count())) == 1;
}

// Sends all of `text`; false when the other end is gone.
inline bool SendAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

// Receives until `size` bytes are there, or the end of file, or kPatience without a byte.
inline std::string ReceiveUpTo(int fd, std::size_t size) {
  std::string text(size, '\0');
  std::size_t have = 0;
  while (have < size && Readable(fd)) {
    const ssize_t got = recv(fd, text.data() + have, size - have, 0);
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  return text;
}

// Text without short periods, so that a piece out of place shows.
inline std::string Text(std::size_t size, unsigned seed = 0) {
  std::string text(size, '\0');
  std::uint32_t state = seed * 2654435761U + 1;
  for (char& c : text) {
    state = state * 1664525U + 1013904223U;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

}  // namespace sealift::mover::testing
