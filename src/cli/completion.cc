#include "cli/completion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "cli/completion_tree.h"

namespace sealift::cli {
namespace {

// Quoted for a POSIX shell and zsh.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

// FishQuoted: inside single quotes fish knows \' and \\.
std::string FishQuoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string Entries(const std::vector<CompletionWord>& words) {
  std::string entries;
  for (const CompletionWord& word : words) {
    entries += fmt::format(" {}", Quoted(fmt::format("{}:{}", word.name, word.description)));
  }
  return entries;
}

// SpecFunction sets the verbs and options that may follow a path.
std::string SpecFunction(const std::vector<CompletionPlace>& places) {
  std::string cases;
  for (const CompletionPlace& place : places) {
    cases += fmt::format("    {})\n      verbs=({} )\n      options=({} )\n      ;;\n",
                         Quoted(place.path), Entries(place.verbs), Entries(place.options));
  }
  return fmt::format(
      "_sealift_spec() {{\n  verbs=()\n  options=()\n  case \"$1\" in\n{}  esac\n"
      "  [ -z \"$1\" ] || options+=({} )\n}}\n",
      cases, Entries(places.front().options));
}

// KindCases are the patterns of one place: what an option takes, and the n-th argument. Options of
// the root match everywhere.
std::string KindCases(const CompletionPlace& place) {
  const std::string at = place.path.empty() ? "*" : Quoted(place.path);
  std::string cases;
  for (std::size_t i = 0; i < place.positionals.size(); ++i) {
    cases += fmt::format("    {}' {}') echo {} ;;\n", at, i, Quoted(place.positionals[i]));
  }
  for (const CompletionWord& option : place.options) {
    if (option.type.empty()) continue;
    cases += fmt::format("    {}' {}') echo {} ;;\n", at, option.name, Quoted(option.type));
  }
  return cases;
}

// KindFunction prints the type of the value that an option takes, or of the n-th argument, at a
// path. A verb's own option wins over one of the root with the same name.
std::string KindFunction(const std::vector<CompletionPlace>& places) {
  std::string cases;
  for (std::size_t i = 1; i < places.size(); ++i) cases += KindCases(places[i]);
  cases += KindCases(places.front());
  return fmt::format("_sealift_kind() {{\n  case \"$1 $2\" in\n{}  esac\n}}\n", cases);
}

// The rest of bash and zsh is the same for every tree. `place` is "value" right after an option
// that takes one.
constexpr std::string_view kCommonFunctions = R"sh(_sealift_values() {
  case "$1" in
    VM) sealift vm list --timeout 3 2>/dev/null | awk 'NR > 1 { print $1 }' ;;
    HOST) sealift host list --timeout 3 2>/dev/null | awk 'NR > 1 { print $1 }' ;;
    USER) sealift user list --timeout 3 2>/dev/null | awk 'NR > 1 { print $1 }' ;;
    MIGRATION) sealift migration list --timeout 3 2>/dev/null | awk 'NR > 1 { print $1 }' ;;
    *'|'*) echo "$1" | tr '|' '\n' ;;
  esac
}
_sealift_is_verb() {
  local entry
  for entry in "${verbs[@]}"; do
    [ "${entry%%:*}" = "$1" ] && return 0
  done
  return 1
}
_sealift_walk() {
  local word position=0
  at='' kind='' place=word
  _sealift_spec ''
  while [ $# -gt 0 ]; do
    word=$1
    shift
    case "$word" in
      -*)
        kind=$(_sealift_kind "$at" "$word")
        [ -n "$kind" ] || continue
        if [ $# -eq 0 ]; then
          place=value
          return
        fi
        shift
        ;;
      *)
        if _sealift_is_verb "$word"; then
          at="${at:+$at }$word"
          _sealift_spec "$at"
        else
          position=$((position + 1))
        fi
        ;;
    esac
  done
  kind=$(_sealift_kind "$at" "$position")
}
)sh";

constexpr std::string_view kBashFunction = R"sh(_sealift() {
  local verbs options at kind place entry words=()
  local current=${COMP_WORDS[COMP_CWORD]}
  _sealift_walk "${COMP_WORDS[@]:1:COMP_CWORD-1}"
  if [ "$place" = word ] && [[ $current == -* ]]; then
    words=("${options[@]%%:*}")
  elif [ "$place" = word ] && [ ${#verbs[@]} -gt 0 ]; then
    words=("${verbs[@]%%:*}")
  elif [ "$kind" = FILE ]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    return
  elif [ -n "$kind" ]; then
    mapfile -t words < <(_sealift_values "$kind")
  else
    words=("${options[@]%%:*}")
  fi
  mapfile -t COMPREPLY < <(compgen -W "${words[*]}" -- "$current")
}
complete -F _sealift sealift
)sh";

constexpr std::string_view kZshFunction = R"sh(_sealift() {
  local -a verbs options values
  local at kind place current=${words[CURRENT]}
  _sealift_walk "${(@)words[2,CURRENT-1]}"
  if [[ $place == word && $current == -* ]]; then
    _describe option options
  elif [[ $place == word && ${#verbs} -gt 0 ]]; then
    _describe command verbs
  elif [[ $kind == FILE ]]; then
    _files
  elif [[ -n $kind ]]; then
    values=(${(f)"$(_sealift_values "$kind")"})
    compadd -- $values
  else
    _describe option options
  fi
}
if [ "$funcstack[1]" = _sealift ]; then
  _sealift "$@"
else
  compdef _sealift sealift
fi
)sh";

// FishValues is what fish offers for a value of a type.
std::string FishValues(const std::string& type) {
  if (type == kFileType) return "-F";
  if (type.find('|') != std::string::npos) {
    std::string values = type;
    std::replace(values.begin(), values.end(), '|', ' ');
    return fmt::format("-x -a {}", FishQuoted(values));
  }
  if (type == kVmType || type == kHostType || type == kUserType ||
      type == kMigrationType) {  // nouns in capitals
    std::string noun = type;
    std::transform(noun.begin(), noun.end(), noun.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return fmt::format("-x -a '(__sealift_names {})'", noun);
  }
  return "-x";
}

std::string FishOption(const std::string& condition, const CompletionWord& option) {
  const bool is_long = option.name.starts_with("--");
  return fmt::format("complete -c sealift{} {} {}{} -d {}\n", condition, is_long ? "-l" : "-s",
                     option.name.substr(is_long ? 2 : 1),
                     option.type.empty() ? "" : " " + FishValues(option.type),
                     FishQuoted(option.description));
}

std::string FishPlace(const CompletionPlace& place) {
  const auto at = [&](std::size_t position) {
    return fmt::format(" -n '__sealift_at {} {}'", position, place.path);
  };
  std::string lines;
  for (const CompletionWord& verb : place.verbs) {
    lines += fmt::format("complete -c sealift{} -a {} -d {}\n", at(0), verb.name,
                         FishQuoted(verb.description));
  }
  const std::string within =
      place.path.empty() ? "" : fmt::format(" -n '__sealift_within {}'", place.path);
  for (const CompletionWord& option : place.options) lines += FishOption(within, option);
  for (std::size_t i = 0; i < place.positionals.size(); ++i) {
    lines += fmt::format("complete -c sealift{} {}\n", at(i), FishValues(place.positionals[i]));
  }
  return lines;
}

// FishValued lists the options that take a value, so that the value is not taken for a verb.
std::string FishValued(const std::vector<CompletionPlace>& places) {
  std::set<std::string> names;
  for (const CompletionPlace& place : places) {
    for (const CompletionWord& option : place.options) {
      if (!option.type.empty()) names.insert(option.name);
    }
  }
  return fmt::format("set -g __sealift_valued {}\n", fmt::join(names, " "));
}

constexpr std::string_view kFishFunctions = R"sh(complete -c sealift -f
function __sealift_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip -eq 1
            set skip 0
        else if contains -- $word $__sealift_valued
            set skip 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end
function __sealift_within
    set -l words (__sealift_words)
    set -l depth (count $argv)
    test $depth -eq 0; and return 0
    test (count $words) -ge $depth; and test "$words[1..$depth]" = "$argv"
end
function __sealift_at
    set -l path $argv[2..-1]
    test (count (__sealift_words)) -eq (math (count $path) + $argv[1]); and __sealift_within $path
end
function __sealift_names
    sealift $argv list --timeout 3 2>/dev/null | awk 'NR > 1 { print $1 }'
end
)sh";

std::string FishScript(const std::vector<CompletionPlace>& places) {
  std::string script = "# fish completion of sealift\n" + FishValued(places);
  script += kFishFunctions;
  for (const CompletionPlace& place : places) script += FishPlace(place);
  return script;
}

}  // namespace

std::string CompletionScript(const CLI::App& root, Shell shell) {
  const std::vector<CompletionPlace> places = CompletionPlaces(root);
  switch (shell) {
    case Shell::kBash:
      return fmt::format("# bash completion of sealift\n{}{}{}{}", SpecFunction(places),
                         KindFunction(places), kCommonFunctions, kBashFunction);
    case Shell::kZsh:
      return fmt::format("#compdef sealift\n{}{}{}{}", SpecFunction(places), KindFunction(places),
                         kCommonFunctions, kZshFunction);
    case Shell::kFish:
      break;
  }
  return FishScript(places);
}

}  // namespace sealift::cli
