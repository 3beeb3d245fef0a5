// sealift-mover FD [BACKEND [PROVIDER]]: moves one migration for the agent that started it, which
// is at the other end of descriptor FD. BACKEND is ipsec-mb, openssl or auto, PROVIDER (of
// OpenSSL's algorithms) default or fips: what must be known before the process is confined.
// Everything else comes through that socket, and the key only sealed.
#include <sys/prctl.h>

#include <charconv>
#include <csignal>
#include <ctime>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/socket.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "keys/openssl_setup.h"
#include "keys/random.h"
#include "keys/secret_bytes.h"
#include "keys/self_test.h"
#include "mover/confinement.h"
#include "mover/control.h"
#include "mover/mover.h"
#include "record/aead.h"

namespace sealift::mover {
namespace {

struct Arguments {
  base::UniqueFd agent;
  std::optional<record::AeadBackend> backend;
  keys::Provider provider = keys::Provider::kDefault;
};

absl::StatusOr<Arguments> ReadArguments(const std::vector<std::string_view>& words) {
  const auto misused =
      absl::InvalidArgumentError("sealift-mover is started by sealift-agentd only");
  if (words.empty() || words.size() > 3) return misused;
  const std::string_view backend = words.size() > 1 ? words[1] : "auto";
  const std::string_view provider = words.size() > 2 ? words[2] : "default";
  int fd = -1;
  const char* end = words[0].data() + words[0].size();
  if (std::from_chars(words[0].data(), end, fd).ptr != end || fd < 3) return misused;
  Arguments arguments{base::UniqueFd(fd), record::ParseAeadBackend(backend)};
  if (!arguments.backend && backend != "auto") return misused;
  if (provider == "fips") arguments.provider = keys::Provider::kFips;
  return provider == "fips" || provider == "default"
             ? absl::StatusOr<Arguments>(std::move(arguments))
             : misused;
}

// What opens files comes first, then the process is confined, then it may meet foreign bytes.
absl::StatusOr<record::AeadBackend> SetUp(const Arguments& arguments) {
  SEALIFT_RETURN_IF_ERROR(keys::ForbidDumping());
  ::tzset();  // the log's time zone
  SEALIFT_RETURN_IF_ERROR(keys::SetUpOpenssl(arguments.provider));
  SEALIFT_RETURN_IF_ERROR(keys::SelfTest());
  SEALIFT_ASSIGN_OR_RETURN(const record::AeadBackend backend,
                           record::CheckedBackend(arguments.backend));
  SEALIFT_RETURN_IF_ERROR(Confine());
  return backend;
}

absl::Status Main(int argc, char** argv) {
  // The log's reader may go before us.
  static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
  // Started by descriptor, it would be called by that one's number.
  prctl(PR_SET_NAME, "sealift-mover");
  SEALIFT_RETURN_IF_ERROR(base::SetUpLog("sealift-mover", "info"));
  SEALIFT_ASSIGN_OR_RETURN(Arguments arguments, ReadArguments({argv + 1, argv + argc}));
  const absl::StatusOr<record::AeadBackend> backend = SetUp(arguments);
  if (!backend.ok()) {
    const Failed failed{base::MessageOf(backend.status())};
    static_cast<void>(base::SendMessage(arguments.agent.get(), EncodeControl(failed), {}));
    return backend.status();
  }
  keys::SystemRandom random;
  const base::SystemClock clock;
  Mover mover(std::move(arguments.agent), *backend, random, clock);
  return mover.Run();
}

}  // namespace
}  // namespace sealift::mover

int main(int argc, char** argv) {
  const absl::Status status = sealift::mover::Main(argc, argv);
  if (status.ok()) return 0;
  spdlog::error("{}", sealift::base::MessageOf(status));
  return 1;
}
