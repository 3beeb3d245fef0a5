#include "cli/testing_cli.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace sealift::cli {
namespace {}  // namespace

grpc::Status Error(grpc::StatusCode code, const std::string& text) { return {code, text}; }

void WaitUntilCancelled(const grpc::ServerContext& context) {
  while (!context.IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

v1::Migration MigrationIn(v1::MigrationPhase phase, const std::string& running_on) {
  v1::Migration migration;
  migration.set_id(kId);
  migration.set_vm("web1");
  migration.set_from("a");
  migration.set_to("b");
  migration.set_mode(v1::ENCRYPTION_MODE_REQUIRED);
  migration.set_encrypted(true);
  migration.set_cipher("AES-256-GCM");
  migration.set_engine(v1::ENGINE_STREAM);
  migration.set_running_on(running_on);
  migration.mutable_progress()->set_phase(phase);
  return migration;
}

CliTest::CliTest()
    : authority_(folder_ / "controller"),
      operator_(authority_.MakeIdentity(pki::Role::kAdmin, "admin")),
      controller_(authority_) {
  UseContext(authority_.MakeContext(controller_.port(), operator_));
  environment_ = {{"HOME", folder_.path()},
                  {"TERM", "xterm"},
                  {"PATH", std::string(SEALIFT_BIN_DIR) + ":" + std::getenv("PATH")},
                  {"SEALIFT_CONTEXT", context_path_}};
}

CliTest::~CliTest() = default;

void CliTest::UseContext(const Context& context) const {
  ASSERT_TRUE(WriteContext(context_path_, context).ok());
}

std::unique_ptr<Child> CliTest::Start(const std::vector<std::string>& arguments,
                                      Child::Wiring wiring) const {
  return std::make_unique<Child>(std::string(SEALIFT_BIN_DIR) + "/sealift", arguments, environment_,
                                 wiring);
}

Result CliTest::Run(const std::vector<std::string>& arguments, const std::string& input) const {
  const auto child = Start(arguments);
  child->Type(input);
  return child->Wait();
}

std::string CliTest::WriteFile(const std::string& name, const std::string& text) const {
  const std::string path = folder_ / name;
  std::ofstream(path) << text;
  return path;
}

void CliTest::StartsMigration() {
  script().start_migration = [](const auto&, v1::Migration& migration) {
    migration = MigrationIn(v1::MIGRATION_PHASE_PREPARING);
    return grpc::Status::OK;
  };
}

void CliTest::Watches(const std::vector<v1::Migration>& updates) {
  script().watch_migration = [updates](auto&, const auto& request, auto& writer) {
    EXPECT_EQ(request.id(), kId);
    for (const v1::Migration& update : updates) writer.Write(update);
    return grpc::Status::OK;
  };
}

}  // namespace sealift::cli
