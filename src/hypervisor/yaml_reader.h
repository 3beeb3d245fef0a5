// Reads a YAML document into values, by tables of keys, with errors that say line and key.
// Functions here may throw YAML::Exception; whoever loads a document catches it.
#pragma once

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "hypervisor/definition_syntax.h"

namespace sealift::hypervisor {

// A YAML node with the key path that leads to it, "disks[0].path", and its line: that of the key,
// because an empty value has none of its own.
struct Value {
  YAML::Node node;
  std::string path;
  int line;
};

// LoadYaml loads text that holds exactly one document. May throw YAML::Exception.
[[nodiscard]] absl::StatusOr<YAML::Node> LoadYaml(const std::string& text);

// LineOf counts from 1.
[[nodiscard]] int LineOf(const YAML::Node& node);

// Fail says where: "line 4: memory: TEXT". FailWith does so with the text of a failed status.
[[nodiscard]] absl::Status Fail(const Value& value, std::string_view text);
[[nodiscard]] absl::Status FailWith(const Value& value, const absl::Status& status);

// Scalar is the text of a single value.
[[nodiscard]] absl::StatusOr<std::string> Scalar(const Value& value);

// ReadText reads a scalar that `check` accepts.
[[nodiscard]] absl::Status ReadText(const Value& value, absl::Status (*check)(std::string_view),
                                    std::string& out);
// ReadBool reads "true" or "false".
[[nodiscard]] absl::Status ReadBool(const Value& value, bool& out);

// ReadParsed reads a scalar through `parse`.
template <typename T>
absl::Status ReadParsed(const Value& value, absl::StatusOr<T> (*parse)(std::string_view), T& out) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string text, Scalar(value));
  absl::StatusOr<T> parsed = parse(text);
  if (!parsed.ok()) return FailWith(value, parsed.status());
  out = *std::move(parsed);
  return absl::OkStatus();
}

// ReadChoice reads one of a few words; `Choice` pairs a word with its value.
template <typename T>
struct Choice {
  std::string_view word;
  T value;
};
template <typename T>
absl::Status ReadChoice(const Value& value, std::span<const Choice<T>> choices, T& out) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string text, Scalar(value));
  std::string words;
  for (const Choice<T>& choice : choices) {
    if (choice.word == text) {
      out = choice.value;
      return absl::OkStatus();
    }
    words += fmt::format("{}{}", words.empty() ? "" : ", ", choice.word);
  }
  return Fail(value, fmt::format("'{}' is none of {}", text, words));
}

enum class Presence { kRequired, kOptional };

// Key is one key of a YAML map: how to read it into a T.
template <typename T>
struct Key {
  std::string_view name;
  Presence presence;
  absl::Status (*read)(const Value&, T&);
};

// FindKey finds a key by name, or says which one was probably meant.
template <typename T>
absl::StatusOr<const Key<T>*> FindKey(const Value& key_value, const std::string& name,
                                      std::span<const Key<T>> keys) {
  const auto found = std::ranges::find(keys, name, &Key<T>::name);
  if (found != keys.end()) return &*found;
  std::vector<std::string_view> names;
  for (const Key<T>& key : keys) names.push_back(key.name);
  const std::string_view nearest = NearestName(name, names);
  return Fail(key_value,
              nearest.empty()
                  ? fmt::format("unknown key '{}' (known: {})", name, fmt::join(names, ", "))
                  : fmt::format("unknown key '{}': did you mean '{}'?", name, nearest));
}

template <typename T>
absl::Status CheckRequired(const Value& map, std::span<const Key<T>> keys,
                           const std::set<std::string, std::less<>>& seen) {
  for (const Key<T>& key : keys) {
    if (key.presence == Presence::kRequired && !seen.contains(key.name)) {
      return Fail(map, fmt::format("{} is missing", key.name));
    }
  }
  return absl::OkStatus();
}

// ReadMap reads a map that may have `keys`, each at most once.
template <typename T>
absl::Status ReadMap(const Value& map, std::span<const Key<T>> keys, T& out) {
  if (!map.node.IsMap()) return Fail(map, "must be a list of 'key: value' lines");
  std::set<std::string, std::less<>> seen;
  for (const auto& pair : map.node) {
    const Value key_value{pair.first, map.path, LineOf(pair.first)};
    SEALIFT_ASSIGN_OR_RETURN(const std::string name, Scalar(key_value));
    SEALIFT_ASSIGN_OR_RETURN(const Key<T>* key, FindKey(key_value, name, keys));
    if (!seen.insert(name).second) {
      return Fail(key_value, fmt::format("the key '{}' is there twice", name));
    }
    const Value value{pair.second, map.path.empty() ? name : fmt::format("{}.{}", map.path, name),
                      key_value.line};
    SEALIFT_RETURN_IF_ERROR(key->read(value, out));
  }
  return CheckRequired(map, keys, seen);
}

// ReadList reads a list of at most `limit` values.
template <typename T>
absl::Status ReadList(const Value& list, std::size_t limit, absl::Status (*read)(const Value&, T&),
                      std::vector<T>& out) {
  if (!list.node.IsSequence()) return Fail(list, "must be a list");
  if (list.node.size() > limit) {
    return Fail(list,
                fmt::format("has {} entries, at most {} are possible", list.node.size(), limit));
  }
  for (const YAML::Node& node : list.node) {
    T entry{};
    SEALIFT_RETURN_IF_ERROR(
        read({node, fmt::format("{}[{}]", list.path, out.size()), LineOf(node)}, entry));
    out.push_back(std::move(entry));
  }
  return absl::OkStatus();
}

}  // namespace sealift::hypervisor
