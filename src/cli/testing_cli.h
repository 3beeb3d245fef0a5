// The real `sealift` program against a real server whose answers a test writes down.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/testing.h"
#include "cli/testing_child.h"
#include "cli/testing_controller.h"

namespace sealift::cli {

inline constexpr char kId[] = "00112233445566778899aabbccddeeff";

// MigrationIn is one of web1 from a to b, encrypted.
[[nodiscard]] v1::Migration MigrationIn(v1::MigrationPhase phase,
                                        const std::string& running_on = "a");

// WaitUntilCancelled polls: gRPC's synchronous server has nothing to wait for.
void WaitUntilCancelled(const grpc::ServerContext& context);

[[nodiscard]] grpc::Status Error(grpc::StatusCode code, const std::string& text);

// CliTest has a folder of its own, a CA, a controller, and the context file of an operator.
class CliTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { rpc::RequireTls13(); }

  CliTest();
  ~CliTest() override;

  void UseContext(const Context& context) const;

  [[nodiscard]] std::unique_ptr<Child> Start(const std::vector<std::string>& arguments,
                                             Child::Wiring wiring = Child::Wiring::kPipes) const;
  [[nodiscard]] Result Run(const std::vector<std::string>& arguments,
                           const std::string& input = "") const;

  // WriteFile gives the path of a new file in the folder.
  [[nodiscard]] std::string WriteFile(const std::string& name, const std::string& text) const;

  // StartsMigration makes the controller accept a migration of web1.
  void StartsMigration();
  // Watches makes every watch send these and end.
  void Watches(const std::vector<v1::Migration>& updates);

  [[nodiscard]] Script& script() { return controller_.script; }

  const base::TestFolder folder_;
  const std::string context_path_ = folder_ / "context.yaml";
  Authority authority_;
  const std::string operator_;
  ScriptedController controller_;
  std::map<std::string, std::string> environment_;
};

}  // namespace sealift::cli
