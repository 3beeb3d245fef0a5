// What the store says of floors and default modes.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "policy/encryption.h"
#include "store/store.h"

namespace sealift::controller {

// ModePolicy holds the floors and defaults of one moment. A value.
class ModePolicy {
 public:
  [[nodiscard]] static absl::StatusOr<ModePolicy> Load(store::Store& store);

  // FloorsAt are those of the installation and of the groups of these hosts.
  [[nodiscard]] std::vector<policy::Floor> FloorsAt(const std::vector<std::string>& hosts) const;
  // FloorOf is what holds in a group ("": in none): its floor or that of the installation, the
  // higher one; disabled where there is none.
  [[nodiscard]] policy::EncryptionMode FloorOf(const std::string& group) const;
  // EffectiveAt is the mode in force for a VM at its host; on the way from one host to another
  // both count. INTERNAL when the store holds a mode that this version does not know.
  [[nodiscard]] absl::StatusOr<policy::EffectiveMode> EffectiveAt(
      const store::VmRow& vm, const std::vector<std::string>& hosts) const;
  // DefaultAt is the mode of a new VM that names none: never below a floor.
  [[nodiscard]] policy::EncryptionMode DefaultAt(const std::string& host) const;

 private:
  struct Rule {
    std::string scope;
    std::optional<policy::EncryptionMode> floor;
    std::optional<policy::EncryptionMode> default_mode;
  };
  // RulesAt gives the rules for a host, the installation's first.
  [[nodiscard]] std::vector<Rule> RulesAt(const std::vector<std::string>& hosts) const;

  std::map<std::string, Rule> rules_;            // by group; "" is the installation
  std::map<std::string, std::string> group_of_;  // by host
};

}  // namespace sealift::controller
