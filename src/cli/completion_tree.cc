#include "cli/completion_tree.h"

#include <CLI/CLI.hpp>

namespace sealift::cli {
namespace {

void AddOption(const CLI::Option& option, CompletionPlace& place) {
  if (option.get_positional()) {
    place.positionals.push_back(option.get_type_name());
    return;
  }
  const std::string type = option.get_items_expected_max() == 0 ? "" : option.get_type_name();
  for (const std::string& name : option.get_lnames()) {
    place.options.push_back({"--" + name, option.get_description(), type});
  }
  for (const std::string& name : option.get_snames()) {
    place.options.push_back({"-" + name, option.get_description(), type});
  }
}

void Visit(const CLI::App& app, const std::string& path, std::vector<CompletionPlace>& places) {
  const auto all = [](const auto*) { return true; };
  CompletionPlace place;
  place.path = path;
  for (const CLI::Option* option : app.get_options(all)) AddOption(*option, place);
  const auto verbs = app.get_subcommands(all);
  for (const CLI::App* verb : verbs) {
    place.verbs.push_back({verb->get_name(), verb->get_description(), ""});
  }
  places.push_back(std::move(place));
  for (const CLI::App* verb : verbs) {
    Visit(*verb, path.empty() ? verb->get_name() : path + ' ' + verb->get_name(), places);
  }
}

}  // namespace

std::vector<CompletionPlace> CompletionPlaces(const CLI::App& root) {
  std::vector<CompletionPlace> places;
  Visit(root, "", places);
  return places;
}

}  // namespace sealift::cli
