#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/check.h"
#include "cli/format.h"

namespace sealift::cli {
namespace {

std::string_view ColourCode(Tone tone) {
  switch (tone) {
    case Tone::kGood:
      return "\x1b[32m";
    case Tone::kWarning:
      return "\x1b[33m";
    case Tone::kBad:
      return "\x1b[31m";
    case Tone::kPlain:
      break;
  }
  return "";
}

std::string Painted(const Cell& cell, Colour colour) {
  if (colour == Colour::kOff || cell.tone == Tone::kPlain) return cell.text;
  return fmt::format("{}{}\x1b[0m", ColourCode(cell.tone), cell.text);
}

std::vector<std::size_t> ColumnWidths(const std::vector<std::vector<Cell>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(row[i].text));
    }
  }
  return widths;
}

}  // namespace

Table::Table(std::vector<std::string> header) { rows_.emplace_back(header.begin(), header.end()); }

void Table::AddRow(std::vector<Cell> cells) {
  SEALIFT_CHECK(rows_.empty() || rows_.front().size() == cells.size());
  for (Cell& cell : cells) cell.text = cell.text.empty() ? "-" : Printable(cell.text);
  rows_.push_back(std::move(cells));
}

void Table::Add(std::string name, Cell value) { AddRow({std::move(name), std::move(value)}); }

void Table::Print(std::ostream& out, Colour colour) const {
  const std::vector<std::size_t> widths = ColumnWidths(rows_);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out << Painted(row[i], colour);
      if (i + 1 < row.size()) {
        out << std::string(widths[i] - DisplayWidth(row[i].text) + 2, ' ');
      }
    }
    out << '\n';
  }
}

}  // namespace sealift::cli
