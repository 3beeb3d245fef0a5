#include "controller/host_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/status.h"
#include "controller/convert.h"
#include "controller/forecasts.h"
#include "controller/lookup.h"
#include "controller/requests.h"
#include "pki/identity.h"
#include "pki/join_token.h"

namespace sealift::controller {
namespace {

constexpr std::size_t kTokenSecretBytes = 32;
constexpr std::string_view kRemoved = "host.removed";

}  // namespace

HostServiceImpl::HostServiceImpl(store::Store& store, HostRows& rows, AgentDirectory& agents,
                                 VmSync& sync, HostDeaths& deaths, EventLog& events,
                                 keys::RandomSource& random, const base::Clock& clock,
                                 JoinTokens tokens)
    : store_(store),
      rows_(rows),
      agents_(agents),
      sync_(sync),
      deaths_(deaths),
      events_(events),
      random_(random),
      clock_(clock),
      tokens_(std::move(tokens)) {}

grpc::Status HostServiceImpl::Add(grpc::ServerContext* context, const v1::AddHostRequest* request,
                                  v1::AddHostResponse* response) {
  return Answer(store_, *context, "host add", policy::Right::kManageHosts,
                [&](const Caller& caller) { return AddHost(*request, caller.uri, *response); });
}

grpc::Status HostServiceImpl::List(grpc::ServerContext* context, const v1::ListHostsRequest*,
                                   v1::ListHostsResponse* response) {
  return Answer(store_, *context, "host list", policy::Right::kRead,
                [&](const Caller&) -> absl::Status {
                  SEALIFT_ASSIGN_OR_RETURN(const auto rows, store_.ListHosts());
                  for (const store::HostRow& row : rows) {
                    SEALIFT_ASSIGN_OR_RETURN(*response->add_hosts(), Describe(row));
                  }
                  return absl::OkStatus();
                });
}

grpc::Status HostServiceImpl::Get(grpc::ServerContext* context, const v1::GetHostRequest* request,
                                  v1::Host* response) {
  return Answer(
      store_, *context, "host show", policy::Right::kRead, [&](const Caller&) -> absl::Status {
        SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, FindHost(store_, request->name()));
        SEALIFT_ASSIGN_OR_RETURN(*response, Describe(row));
        return absl::OkStatus();
      });
}

grpc::Status HostServiceImpl::Remove(grpc::ServerContext* context,
                                     const v1::RemoveHostRequest* request,
                                     v1::RemoveHostResponse*) {
  return Answer(store_, *context, "host remove", policy::Right::kManageHosts,
                [&](const Caller& caller) { return RemoveHost(request->name(), caller.uri); });
}

grpc::Status HostServiceImpl::Set(grpc::ServerContext* context, const v1::SetHostRequest* request,
                                  v1::Host* response) {
  return Answer(store_, *context, "host set", policy::Right::kManageHosts,
                [&](const Caller& caller) {
                  return SetGroup(request->name(), request->group(), caller, *response);
                });
}

grpc::Status HostServiceImpl::Drain(grpc::ServerContext* context,
                                    const v1::DrainHostRequest* request,
                                    v1::DrainHostResponse* response) {
  return Answer(
      store_, *context, "host drain", policy::Right::kMigrate,
      [&](const Caller& caller) -> absl::Status {
        if (!request->dry_run()) {
          SEALIFT_RETURN_IF_ERROR(SetDraining(request->name(), true, caller.uri));
        }
        SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, FindHost(store_, request->name()));
        SEALIFT_ASSIGN_OR_RETURN(*response->mutable_host(), Describe(row));
        SEALIFT_ASSIGN_OR_RETURN(const Forecasts forecasts, Forecasts::Make(store_, agents_));
        SEALIFT_ASSIGN_OR_RETURN(const auto steps, forecasts.Drain(row.name));
        response->mutable_steps()->Assign(steps.begin(), steps.end());
        return absl::OkStatus();
      });
}

grpc::Status HostServiceImpl::Undrain(grpc::ServerContext* context,
                                      const v1::UndrainHostRequest* request, v1::Host* response) {
  return Answer(store_, *context, "host undrain", policy::Right::kMigrate,
                [&](const Caller& caller) -> absl::Status {
                  SEALIFT_RETURN_IF_ERROR(SetDraining(request->name(), false, caller.uri));
                  return DescribeTo(request->name(), *response);
                });
}

grpc::Status HostServiceImpl::ConfirmDead(grpc::ServerContext* context,
                                          const v1::ConfirmDeadHostRequest* request,
                                          v1::Host* response) {
  return Answer(store_, *context, "host confirm-dead", policy::Right::kManageHosts,
                [&](const Caller& caller) -> absl::Status {
                  SEALIFT_RETURN_IF_ERROR(deaths_.Confirm(request->name(), caller.uri));
                  return DescribeTo(request->name(), *response);
                });
}

grpc::Status HostServiceImpl::Fence(grpc::ServerContext* context,
                                    const v1::FenceHostRequest* request, v1::Host* response) {
  return Answer(store_, *context, "host fence", policy::Right::kManageHosts,
                [&](const Caller& caller) -> absl::Status {
                  SEALIFT_RETURN_IF_ERROR(deaths_.Fence(request->name(), caller.uri));
                  return DescribeTo(request->name(), *response);
                });
}

// A group brings its floor: leaving one for a lower one is lowering a floor.
absl::Status HostServiceImpl::SetGroup(const std::string& name, const std::string& group,
                                       const Caller& caller, v1::Host& response) {
  if (!group.empty()) SEALIFT_RETURN_IF_ERROR(pki::CheckName("group", group));
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, FindHost(store_, name));
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store_));
  if (modes.FloorOf(group) < modes.FloorOf(row.group)) {
    SEALIFT_RETURN_IF_ERROR(
        base::Annotate(policy::CheckRight(caller.rights, policy::Right::kLowerFloor),
                       fmt::format("group '{}' of host {} has a higher floor", row.group, name)));
  }
  if (row.group != group) {
    SEALIFT_RETURN_IF_ERROR(store_.SetHostGroup(name, group));
    sync_.CompareAgain(name);
    events_.Add("host.group_changed", "host/" + name, caller.uri,
                fmt::format("from '{}' to '{}'", row.group, group));
  }
  return DescribeTo(name, response);
}

absl::Status HostServiceImpl::SetDraining(const std::string& name, bool draining,
                                          const std::string& caller) {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, FindHost(store_, name));
  if (row.draining == draining) return absl::OkStatus();
  SEALIFT_RETURN_IF_ERROR(
      rows_.Update(name, [&](store::HostRow& host) { host.draining = draining; }));
  events_.Add(draining ? "host.draining" : "host.undrained", "host/" + name, caller,
              draining ? "it takes no more VMs" : "it takes VMs again");
  return absl::OkStatus();
}

absl::Status HostServiceImpl::AddHost(const v1::AddHostRequest& request, const std::string& caller,
                                      v1::AddHostResponse& response) {
  SEALIFT_RETURN_IF_ERROR(pki::CheckName("host", request.name()));
  SEALIFT_RETURN_IF_ERROR(LifetimeOf(request).status());
  SEALIFT_RETURN_IF_ERROR(request.renew_token() ? LetJoinAgain(request, caller)
                                                : Create(request, caller));
  SEALIFT_RETURN_IF_ERROR(MakeToken(request, response));
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, FindHost(store_, request.name()));
  SEALIFT_ASSIGN_OR_RETURN(*response.mutable_host(), Describe(row));
  return absl::OkStatus();
}

// Of a host that has not joined yet, the token may have been lost with the answer.
absl::Status HostServiceImpl::Create(const v1::AddHostRequest& request, const std::string& caller) {
  store::HostRow row;
  row.name = request.name();
  SEALIFT_ASSIGN_OR_RETURN(row.address, AddressOf(request));
  row.created = base::UnixMillis(clock_.Now());
  const absl::Status created = store_.CreateHost(row);
  if (absl::IsAlreadyExists(created)) {
    SEALIFT_ASSIGN_OR_RETURN(const store::HostRow before, FindHost(store_, row.name));
    if (before.address == row.address && before.certificate_serial.empty()) {
      events_.Add("host.token_renewed", "host/" + row.name, caller,
                  "it has not joined yet; the token before is void");
      return absl::OkStatus();
    }
    return absl::AlreadyExistsError(
        fmt::format("there is a host named {} already: choose another name, or let it join again "
                    "with --renew-token",
                    row.name));
  }
  SEALIFT_RETURN_IF_ERROR(created);
  events_.Add("host.added", "host/" + row.name, caller, fmt::format("at {}", row.address));
  return absl::OkStatus();
}

// Whatever held the old certificate is out before the new token exists.
absl::Status HostServiceImpl::LetJoinAgain(const v1::AddHostRequest& request,
                                           const std::string& caller) {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow before, FindHost(store_, request.name()));
  std::string address = before.address;
  if (!request.address().empty() || address.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(address, AddressOf(request));
  }
  if (!before.certificate_serial.empty()) {
    SEALIFT_RETURN_IF_ERROR(
        store_.RevokeCertificate(before.certificate_serial, base::UnixMillis(clock_.Now())));
  }
  agents_.Unlink(request.name());
  SEALIFT_RETURN_IF_ERROR(rows_.Update(request.name(), [&](store::HostRow& row) {
    row.address = address;
    row.certificate_serial.clear();
    row.certificate_not_after = 0;
  }));
  events_.Add("host.token_renewed", "host/" + request.name(), caller,
              "its certificate is revoked and it may join again");
  return absl::OkStatus();
}

absl::Status HostServiceImpl::MakeToken(const v1::AddHostRequest& request,
                                        v1::AddHostResponse& response) {
  SEALIFT_ASSIGN_OR_RETURN(const std::chrono::seconds lifetime, LifetimeOf(request));
  pki::JoinToken token{request.name(), tokens_.ca_certificate_pem, base::Bytes(kTokenSecretBytes)};
  SEALIFT_RETURN_IF_ERROR(random_.Fill(token.secret));
  SEALIFT_ASSIGN_OR_RETURN(const std::string text, pki::EncodeJoinToken(token));
  const std::int64_t expires = base::UnixMillis(clock_.Now() + lifetime);
  SEALIFT_RETURN_IF_ERROR(
      store_.PutJoinToken({request.name(), pki::Sha256Hex(token.secret), expires}));
  response.set_token(text);
  response.set_token_expires_ms(expires);
  response.set_join_command(fmt::format("sealift-agentd join --controller {} --token {}",
                                        tokens_.enrolment_address, text));
  return absl::OkStatus();
}

absl::Status HostServiceImpl::RemoveHost(const std::string& name, const std::string& caller) {
  const absl::StatusOr<store::HostRow> row = FindHost(store_, name);
  if (absl::IsNotFound(row.status()) && events_.LastIs(kRemoved, "host/" + name)) {
    return absl::OkStatus();
  }
  SEALIFT_RETURN_IF_ERROR(row.status());
  if (row->unheard) {
    return absl::FailedPreconditionError(fmt::format(
        "host {} has not been heard since the controller was restored from a backup, and may have "
        "any VM: start sealift-agentd there, or, if it is down for certain, say so with sealift "
        "host confirm-dead {}",
        name, name));
  }
  SEALIFT_ASSIGN_OR_RETURN(const auto vms, store_.ListVms());
  std::vector<std::string> owned;
  for (const store::VmRow& vm : vms) {
    if (vm.host == name) owned.push_back(vm.name);
  }
  if (!owned.empty()) {
    return absl::FailedPreconditionError(fmt::format(
        "host {} owns VMs: migrate or delete them first ({})", name, fmt::join(owned, ", ")));
  }
  SEALIFT_RETURN_IF_ERROR(store_.DeleteHost(name, base::UnixMillis(clock_.Now())));
  agents_.Unlink(name);
  events_.Add(kRemoved, "host/" + name, caller, "its certificate is revoked");
  return absl::OkStatus();
}

absl::Status HostServiceImpl::DescribeTo(const std::string& name, v1::Host& response) {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, FindHost(store_, name));
  SEALIFT_ASSIGN_OR_RETURN(response, Describe(row));
  return absl::OkStatus();
}

absl::StatusOr<v1::Host> HostServiceImpl::Describe(const store::HostRow& row) {
  SEALIFT_ASSIGN_OR_RETURN(const auto vms, store_.ListVms());
  const auto owned = std::ranges::count(vms, row.name, &store::VmRow::host);
  return ToProto(row, agents_.View(row.name), static_cast<std::uint32_t>(owned));
}

}  // namespace sealift::controller
