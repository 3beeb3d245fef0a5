#include "controller/migration_service.h"

#include "base/status.h"
#include "controller/convert.h"
#include "controller/edge.h"

namespace sealift::controller {
namespace {

constexpr std::size_t kDefaultListed = 100;
// How soon a watcher that has gone away is noticed while nothing changes.
constexpr std::chrono::seconds kLookForClient{1};

v1::Migration Shown(const MigrationView& view) {
  v1::Migration migration = ToProto(view.row, view.progress);
  migration.set_queued_behind(static_cast<std::uint32_t>(view.behind));
  return migration;
}

absl::Status Deliver(const absl::StatusOr<MigrationView>& view, v1::Migration* response) {
  if (!view.ok()) return view.status();
  *response = Shown(*view);
  return absl::OkStatus();
}

}  // namespace

grpc::Status MigrationServiceImpl::Start(grpc::ServerContext* context,
                                         const v1::StartMigrationRequest* request,
                                         v1::Migration* response) {
  return Answer(store_, *context, "vm migrate", policy::Right::kMigrate, [&](const Caller& caller) {
    MigrationRequest asked = Read(*request);
    asked.requested_by = caller.uri;
    asked.rights = caller.rights;
    return Deliver(runner_.Start(asked), response);
  });
}

grpc::Status MigrationServiceImpl::List(grpc::ServerContext* context,
                                        const v1::ListMigrationsRequest* request,
                                        v1::ListMigrationsResponse* response) {
  return Answer(
      store_, *context, "migration list", policy::Right::kRead, [&](const Caller&) -> absl::Status {
        const std::size_t limit = request->limit() == 0 ? kDefaultListed : request->limit();
        SEALIFT_ASSIGN_OR_RETURN(const auto views,
                                 runner_.List({.vm = request->vm(), .limit = limit}));
        for (const MigrationView& view : views) *response->add_migrations() = Shown(view);
        return absl::OkStatus();
      });
}

grpc::Status MigrationServiceImpl::Get(grpc::ServerContext* context,
                                       const v1::GetMigrationRequest* request,
                                       v1::Migration* response) {
  return Answer(store_, *context, "migration show", policy::Right::kRead,
                [&](const Caller&) { return Deliver(runner_.Get(request->id()), response); });
}

grpc::Status MigrationServiceImpl::Watch(grpc::ServerContext* context,
                                         const v1::WatchMigrationRequest* request,
                                         grpc::ServerWriter<v1::Migration>* writer) {
  return Answer(store_, *context, "migration watch", policy::Right::kRead,
                [&](const Caller&) { return Follow(*context, request->id(), *writer); });
}

absl::Status MigrationServiceImpl::Follow(const grpc::ServerContext& context, const std::string& id,
                                          grpc::ServerWriter<v1::Migration>& writer) {
  SEALIFT_ASSIGN_OR_RETURN(MigrationView view, runner_.Get(id));
  std::uint64_t sent = view.version;
  if (!writer.Write(Shown(view))) return absl::OkStatus();
  while (view.row.ended == 0) {
    SEALIFT_ASSIGN_OR_RETURN(view, runner_.WaitForChange(id, sent, kLookForClient, stop_));
    if (context.IsCancelled()) return absl::OkStatus();
    if (stop_.stop_requested()) {
      return absl::UnavailableError("the controller is being stopped; the migration goes on");
    }
    const bool news = view.version != sent || view.row.ended != 0;
    sent = view.version;
    if (news && !writer.Write(Shown(view))) return absl::OkStatus();
  }
  return absl::OkStatus();
}

grpc::Status MigrationServiceImpl::Cancel(grpc::ServerContext* context,
                                          const v1::CancelMigrationRequest* request,
                                          v1::Migration* response) {
  return Answer(store_, *context, "migration cancel", policy::Right::kMigrate,
                [&](const Caller& caller) -> absl::Status {
                  SEALIFT_RETURN_IF_ERROR(runner_.Cancel(request->id(), caller.uri));
                  return Deliver(runner_.Get(request->id()), response);
                });
}

grpc::Status MigrationServiceImpl::Audit(grpc::ServerContext* context,
                                         const v1::AuditMigrationsRequest* request,
                                         grpc::ServerWriter<v1::Migration>* writer) {
  return Answer(store_, *context, "audit", policy::Right::kRead,
                [&](const Caller&) -> absl::Status {
                  SEALIFT_ASSIGN_OR_RETURN(const auto views,
                                           runner_.List({.vm = request->vm(),
                                                         .since = request->since_ms(),
                                                         .until = request->until_ms(),
                                                         .in_the_clear = request->in_the_clear(),
                                                         .limit = 0}));
                  for (const MigrationView& view : views) {
                    if (!writer->Write(Shown(view))) break;
                  }
                  return absl::OkStatus();
                });
}

}  // namespace sealift::controller
