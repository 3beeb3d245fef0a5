#include "qemu/qmp_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace sealift::qemu {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kGreeting =
    R"({"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 3}}, "capabilities": []}})"
    "\n";

// The other end of a QMP connection, played by the test.
class Peer {
 public:
  Peer() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    own_.reset(ends[0]);
    theirs_.reset(ends[1]);
  }
  base::UniqueFd TheirEnd() { return std::move(theirs_); }
  void Say(std::string_view text) const {
    EXPECT_EQ(send(own_.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // Hear returns the next request.
  nlohmann::json Hear() {
    for (;;) {
      if (const auto line = lines_.Next()) return nlohmann::json::parse(*line);
      char buffer[4096];
      const ssize_t got = recv(own_.get(), buffer, sizeof buffer, 0);
      if (got <= 0) return nullptr;
      EXPECT_TRUE(lines_.Append({buffer, static_cast<std::size_t>(got)}).ok());
    }
  }
  void Answer(const nlohmann::json& request, const nlohmann::json& value) const {
    Say(nlohmann::json{{"return", value}, {"id", request.at("id")}}.dump() + "\n");
  }
  void HangUp() { own_.reset(); }

 private:
  base::UniqueFd own_;
  base::UniqueFd theirs_;
  LineSplitter lines_;
};

// Connects a client to `peer`, which shakes hands.
std::unique_ptr<QmpClient> Connect(Peer& peer, QmpClient::Handlers handlers = {}) {
  auto client = std::async(std::launch::async, [&] {
    return QmpClient::Take(peer.TheirEnd(), std::move(handlers), seconds(10));
  });
  peer.Say(kGreeting);
  const nlohmann::json request = peer.Hear();
  EXPECT_EQ(request.at("execute"), "qmp_capabilities");
  peer.Answer(request, nlohmann::json::object());
  absl::StatusOr<std::unique_ptr<QmpClient>> result = client.get();
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

TEST(QmpClient, ShakesHandsAndKnowsTheVersion) {
  Peer peer;
  EXPECT_EQ(Connect(peer)->version(), "3.2.1");
}

TEST(QmpClient, MatchesRepliesThatComeInAnotherOrder) {
  Peer peer;
  const auto client = Connect(peer);
  auto first = std::async(std::launch::async, [&] { return client->Execute("one"); });
  const nlohmann::json one = peer.Hear();
  auto second = std::async(std::launch::async, [&] { return client->Execute("two"); });
  const nlohmann::json two = peer.Hear();
  peer.Answer(two, "second");
  EXPECT_EQ(second.get().value(), "second");
  peer.Answer(one, "first");
  EXPECT_EQ(first.get().value(), "first");
}

TEST(QmpClient, ReturnsWhatQemuRefused) {
  Peer peer;
  const auto client = Connect(peer);
  auto reply = std::async(std::launch::async, [&] { return client->Execute("migrate"); });
  const nlohmann::json request = peer.Hear();
  peer.Say(R"({"id": )" + request.at("id").dump() +
           R"(, "error": {"class": "GenericError", "desc": "no"}})" + "\n");
  EXPECT_EQ(reply.get().status(), absl::FailedPreconditionError("QEMU refused migrate: no"));
}

TEST(QmpClient, GivesUpOnASilentQemuAndDropsTheLateReply) {
  Peer peer;
  const auto client = Connect(peer);
  const absl::Status status = client->Execute("query-status", nullptr, milliseconds(20)).status();
  EXPECT_EQ(status, absl::DeadlineExceededError("QEMU did not answer query-status within 20 ms"));
  const nlohmann::json late = peer.Hear();
  auto next = std::async(std::launch::async, [&] { return client->Execute("stop"); });
  const nlohmann::json request = peer.Hear();
  peer.Answer(late, "late");
  peer.Answer(request, "in time");
  EXPECT_EQ(next.get().value(), "in time");
}

TEST(QmpClient, DeliversEventsInOrder) {
  Peer peer;
  std::vector<std::string> names;
  std::promise<void> done;
  const auto client = Connect(peer, {.event =
                                         [&](const QmpEvent& event) {
                                           names.push_back(event.name);
                                           if (names.size() == 2) done.set_value();
                                         },
                                     .closed = {}});
  peer.Say("{\"event\": \"STOP\"}\n{\"event\": \"RESUME\"}\n");
  ASSERT_EQ(done.get_future().wait_for(seconds(10)), std::future_status::ready);
  EXPECT_THAT(names, ElementsAre("STOP", "RESUME"));
}

TEST(QmpClient, StaysBrokenAfterTheEnd) {
  Peer peer;
  std::promise<void> closed;
  const auto client = Connect(peer, {.event = {}, .closed = [&] { closed.set_value(); }});
  auto pending = std::async(std::launch::async, [&] { return client->Execute("cont"); });
  EXPECT_EQ(peer.Hear().at("execute"), "cont");
  peer.HangUp();
  EXPECT_TRUE(absl::IsUnavailable(pending.get().status()));
  EXPECT_EQ(closed.get_future().wait_for(seconds(10)), std::future_status::ready);
  EXPECT_TRUE(absl::IsUnavailable(client->Execute("cont").status()));
}

TEST(QmpClient, HangsUpOnGarbage) {
  for (const std::string& garbage :
       {std::string("hello\n"), std::string("{\"id\": 1}\n"), std::string(kMaxQmpLine + 1, 'x')}) {
    Peer peer;
    const auto client = Connect(peer);
    auto pending = std::async(std::launch::async, [&] { return client->Execute("cont"); });
    EXPECT_EQ(peer.Hear().at("execute"), "cont");
    auto talk = std::async(std::launch::async, [&] { peer.Say(garbage); });
    EXPECT_TRUE(absl::IsUnavailable(pending.get().status()));
    talk.get();
  }
}

TEST(QmpClient, WantsAGreetingInTime) {
  Peer peer;
  EXPECT_EQ(QmpClient::Take(peer.TheirEnd(), {}, milliseconds(20)).status(),
            absl::DeadlineExceededError("QMP: QEMU sent no greeting"));
}

TEST(QmpClient, ReportsAPeerThatHangsUpAtOnce) {
  Peer peer;
  peer.HangUp();
  EXPECT_TRUE(absl::IsUnavailable(QmpClient::Take(peer.TheirEnd(), {}, seconds(10)).status()));
}

}  // namespace
}  // namespace sealift::qemu
