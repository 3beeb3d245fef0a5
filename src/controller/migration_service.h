// MigrationService of the API.
#pragma once

#include <stop_token>

#include "controller/migrations.h"
#include "sealift/v1/controller.grpc.pb.h"

namespace sealift::controller {

// MigrationServiceImpl: runner and store outlive it. Watches end when `stop` is requested.
class MigrationServiceImpl final : public v1::MigrationService::Service {
 public:
  MigrationServiceImpl(MigrationRunner& runner, store::Store& store, std::stop_token stop)
      : runner_(runner), store_(store), stop_(std::move(stop)) {}

  grpc::Status Start(grpc::ServerContext* context, const v1::StartMigrationRequest* request,
                     v1::Migration* response) override;
  grpc::Status List(grpc::ServerContext* context, const v1::ListMigrationsRequest* request,
                    v1::ListMigrationsResponse* response) override;
  grpc::Status Get(grpc::ServerContext* context, const v1::GetMigrationRequest* request,
                   v1::Migration* response) override;
  grpc::Status Watch(grpc::ServerContext* context, const v1::WatchMigrationRequest* request,
                     grpc::ServerWriter<v1::Migration>* writer) override;
  grpc::Status Cancel(grpc::ServerContext* context, const v1::CancelMigrationRequest* request,
                      v1::Migration* response) override;
  grpc::Status Audit(grpc::ServerContext* context, const v1::AuditMigrationsRequest* request,
                     grpc::ServerWriter<v1::Migration>* writer) override;

 private:
  [[nodiscard]] absl::Status Follow(const grpc::ServerContext& context, const std::string& id,
                                    grpc::ServerWriter<v1::Migration>& writer);

  MigrationRunner& runner_;
  store::Store& store_;
  const std::stop_token stop_;
};

}  // namespace sealift::controller
