// The whole decision matrix, against the tables of docs/encryption_modes.md as they are printed
// there: own mode or encrypted VM x floor x capability of both hosts.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "policy/encryption.h"

namespace sealift::policy {
namespace {

using Table = std::map<std::string, std::vector<std::string>>;  // cells by the first cell of a row

std::string Trimmed(std::string text) {
  const auto wanted = [](char c) { return c != ' ' && c != '`'; };
  std::string kept;
  for (const char c : text) {
    if (wanted(c) || (c == ' ' && !kept.empty())) kept += c;
  }
  while (!kept.empty() && kept.back() == ' ') kept.pop_back();
  return kept;
}

// The table of the page whose header begins with `first`.
Table ReadTable(const std::string& first) {
  std::ifstream page(SEALIFT_DOCS "/encryption_modes.md");
  EXPECT_TRUE(page.is_open());
  Table table;
  std::string line;
  while (std::getline(page, line) && !line.starts_with("| " + first + " |")) {
  }
  std::getline(page, line);  // the rule below the header
  while (std::getline(page, line) && line.starts_with('|')) {
    std::vector<std::string> cells;
    for (std::size_t at = 1; at < line.size();) {
      const std::size_t end = line.find('|', at);
      cells.push_back(Trimmed(line.substr(at, end - at)));
      at = end + 1;
    }
    const std::string name = cells.front();
    cells.erase(cells.begin());
    table[name] = cells;
  }
  return table;
}

Outcome OutcomeOf(const std::string& cell) {
  if (cell.starts_with("encrypted")) return Outcome::kEncrypted;
  if (cell.starts_with("in the clear")) return Outcome::kPlain;
  EXPECT_TRUE(cell.starts_with("refused")) << cell;
  return Outcome::kRefused;
}

TEST(EncryptionMatrix, IsThatOfThePage) {
  const Table outcomes = ReadTable("mode");
  const Table in_force = ReadTable("VM's own mode");
  ASSERT_EQ(outcomes.size(), 3U);
  ASSERT_EQ(in_force.size(), 4U);
  const std::vector<std::vector<Floor>> floors{
      {}, {{"x", EncryptionMode::kOpportunistic}}, {{"x", EncryptionMode::kRequired}}};
  int cases = 0;
  for (const auto& [own, modes] : in_force) {
    ASSERT_EQ(modes.size(), floors.size());
    const bool encrypted_vm = own == "encrypted VM";
    EXPECT_EQ(encrypted_vm, !ParseMode(own.substr(0, own.find(' '))).has_value());
    const EncryptionMode set =
        encrypted_vm ? EncryptionMode::kRequired : *ParseMode(own.substr(0, own.find(' ')));
    for (std::size_t floor = 0; floor < floors.size(); ++floor) {
      const EncryptionMode mode = RaiseToFloors(set, floors[floor]).mode;
      EXPECT_EQ(ModeName(mode), modes[floor]) << own << ", floor " << floor;
      for (const auto& [source, destination] :
           {std::pair{true, true}, {true, false}, {false, true}, {false, false}}) {
        const std::string row = std::string(ModeName(mode)) +
                                (mode == EncryptionMode::kOpportunistic ? " (default)" : "");
        const std::string& cell = outcomes.at(row)[source && destination ? 0 : 1];
        EXPECT_EQ(DecideEncryption(mode, {"a", source, ""}, {"b", destination, ""}).outcome,
                  OutcomeOf(cell))
            << own << ", floor " << floor << ", " << source << destination;
        ++cases;
      }
    }
  }
  EXPECT_EQ(cases, 4 * 3 * 4);
}

}  // namespace
}  // namespace sealift::policy
