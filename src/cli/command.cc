#include "cli/command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

namespace sealift::cli {
namespace {

// The help shows the range as part of the description, not the parser's own words.
template <typename Number>
CLI::Validator Within(Range<Number> range) {
  return CLI::Range(range.lowest, range.highest).description("");
}

}  // namespace

void Verb::Name(const std::string& name, const char* type, std::string& value,
                const std::string& description) const {
  app_.add_option(name, value, description)->required()->type_name(type);
}

void Verb::Text(const std::string& name, const char* type, std::string& value,
                const std::string& description, Need need) const {
  app_.add_option(name, value, description)->required(need == Need::kRequired)->type_name(type);
}

void Verb::Names(const std::string& name, const char* type, std::vector<std::string>& values,
                 const std::string& description) const {
  app_.add_option(name, values, description)->type_name(type);
}

void Verb::Texts(const std::string& name, const char* type, std::vector<std::string>& values,
                 const std::string& description) const {
  app_.add_option(name, values, description)->type_name(type)->expected(1)->take_all();
}

void Verb::Choice(const std::string& name, const std::vector<std::string>& choices,
                  std::string& value, const std::string& description, Need need) const {
  app_.add_option(name, value, description)
      ->check(CLI::IsMember(choices).description(""))
      ->type_name(fmt::format("{}", fmt::join(choices, "|")))
      ->required(need == Need::kRequired);
}

void Verb::Whole(const std::string& name, const char* type, Range<std::uint64_t> range,
                 std::function<void(std::uint64_t)> take, const std::string& description) const {
  app_.add_option_function<std::uint64_t>(name, std::move(take), description)
      ->check(Within(range))
      ->type_name(type);
}

void Verb::Real(const std::string& name, const char* type, Range<double> range, double& value,
                const std::string& description) const {
  app_.add_option(name, value, description)->check(Within(range))->type_name(type);
}

void Verb::Flag(const std::string& name, std::function<void()> take,
                const std::string& description) const {
  app_.add_flag_callback(name, std::move(take), description);
}

Noun Noun::AddNoun(const std::string& name, const std::string& description) const {
  CLI::App* noun = app_.add_subcommand(name, description);
  noun->require_subcommand(1);
  return Noun(*noun);
}

Verb Noun::AddVerb(const std::string& name, const std::string& description,
                   std::function<void()> chosen) const {
  CLI::App* verb = app_.add_subcommand(name, description);
  verb->callback(std::move(chosen));
  return Verb(*verb);
}

}  // namespace sealift::cli
