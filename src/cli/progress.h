// The line that tells how far a migration is.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "sealift/v1/controller.pb.h"

namespace sealift::cli {

// TimeLeft estimates how long the rest of a copy takes, as the guest goes on writing meanwhile; "?"
// when it writes as fast as it is copied.
[[nodiscard]] std::string TimeLeft(const v1::MigrationProgress& progress);

// FormatProgress writes one line: phase, percent, round, rate, what remains, how fast the guest
// writes, time left, cipher and engine.
[[nodiscard]] std::string FormatProgress(const v1::Migration& migration);

// ProgressLine shows the newest state. On a terminal one line is redrawn in place; elsewhere (a
// log) a line is written at each change of phase and every two seconds.
class ProgressLine {
 public:
  enum class Style { kRedraw, kLines };

  // `width` tells the columns of the terminal; it is asked at every update, as windows are resized.
  ProgressLine(std::ostream& out, Style style, std::function<std::size_t()> width,
               const base::Clock& clock);

  void Update(const v1::Migration& migration);
  // Clear takes the redrawn line away, so that other messages start on a line of their own.
  void Clear();

 private:
  static constexpr std::chrono::seconds kLineInterval{2};

  void Redraw(std::string text);

  std::ostream& out_;
  Style style_;
  std::function<std::size_t()> width_;
  const base::Clock& clock_;
  std::size_t drawn_ = 0;  // columns of the line on the screen
  v1::MigrationPhase phase_ = v1::MIGRATION_PHASE_UNSPECIFIED;
  std::optional<base::Duration> last_line_;
};

}  // namespace sealift::cli
