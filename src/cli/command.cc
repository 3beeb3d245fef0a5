#include "cli/command.h"

#include <fmt/format.h>

namespace sealift::cli {

CLI::App& AddNoun(CLI::App& root, const std::string& name, const std::string& description) {
  CLI::App* noun = root.add_subcommand(name, description);
  noun->require_subcommand(1);
  return *noun;
}

CLI::Option* AddName(CLI::App& verb, const std::string& name, const char* type, std::string& value,
                     const std::string& description) {
  return verb.add_option(name, value, description)->required()->type_name(type);
}

CLI::Option* AddChoice(CLI::App& verb, const std::string& name,
                       const std::vector<std::string>& choices, std::string& value,
                       const std::string& description) {
  return verb.add_option(name, value, description)
      ->check(CLI::IsMember(choices).description(""))
      ->type_name(fmt::format("{}", fmt::join(choices, "|")));
}

}  // namespace sealift::cli
