// Aligned columns of text.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace sealift::cli {

// Tone of a cell, shown as a colour where colours are shown at all.
enum class Tone { kPlain, kGood, kWarning, kBad };

struct Cell {
  // NOLINTNEXTLINE(google-explicit-constructor): a row is written as its texts
  Cell(std::string cell_text) : text(std::move(cell_text)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Cell(const char* cell_text) : text(cell_text) {}
  Cell(std::string cell_text, Tone cell_tone) : text(std::move(cell_text)), tone(cell_tone) {}
  std::string text;
  Tone tone = Tone::kPlain;
};

enum class Colour { kOff, kOn };

// Table collects rows and prints them with aligned columns, two spaces between. Empty cells print
// "-". A table without a header is a list of names and values.
class Table {
 public:
  Table() = default;
  explicit Table(std::vector<std::string> header);

  // AddRow takes one cell per column.
  void AddRow(std::vector<Cell> cells);
  // Add is a row of a name and a value.
  void Add(std::string name, Cell value);

  void Print(std::ostream& out, Colour colour) const;

 private:
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace sealift::cli
