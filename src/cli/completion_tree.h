// The command line's own tree of nouns, verbs and options, as completion scripts need it.
#pragma once

#include <string>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}  // namespace CLI

namespace sealift::cli {

// CompletionWord is a verb, or an option with the type of its value (empty for a flag).
struct CompletionWord {
  std::string name;
  std::string description;
  std::string type;
};

// CompletionPlace is what may stand after `path` ("vm migrate"; empty for the root). Options of the
// root may stand everywhere and are listed there only.
struct CompletionPlace {
  std::string path;
  std::vector<CompletionWord> verbs;
  std::vector<CompletionWord> options;
  std::vector<std::string> positionals;  // the types of the arguments
};

// CompletionPlaces lists every place, the root first.
[[nodiscard]] std::vector<CompletionPlace> CompletionPlaces(const CLI::App& root);

}  // namespace sealift::cli
