#include "cli/progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/format.h"
#include "cli/message_json.h"

namespace sealift::cli {
namespace {

unsigned Percent(const v1::MigrationProgress& progress) {
  const std::uint64_t total = progress.ram_total_bytes();
  if (total == 0) return 0;
  const std::uint64_t remaining = std::min(progress.ram_remaining_bytes(), total);
  return static_cast<unsigned>(static_cast<double>(total - remaining) / static_cast<double>(total) *
                               100.0);
}

// Clipped keeps as many whole code points as fit.
std::string Clipped(const std::string& text, std::size_t columns) {
  std::string clipped;
  for (const char c : text) {
    const std::string longer = clipped + c;
    if (DisplayWidth(longer) > columns) break;
    clipped = longer;
  }
  return clipped;
}

}  // namespace

std::string TimeLeft(const v1::MigrationProgress& progress) {
  const std::uint64_t rate = progress.bytes_per_second();
  const std::uint64_t dirty = progress.dirty_bytes_per_second();
  if (rate <= dirty) return "?";
  return FormatMillis(
      static_cast<std::uint64_t>(static_cast<double>(progress.ram_remaining_bytes()) /
                                 static_cast<double>(rate - dirty) * 1000.0));
}

std::string FormatProgress(const v1::Migration& migration) {
  const v1::MigrationProgress& progress = migration.progress();
  std::string line = migration.queued_behind() > 0
                         ? fmt::format("queued behind {}", migration.queued_behind())
                         : Word(progress.phase());
  if (progress.phase() == v1::MIGRATION_PHASE_COPYING) {
    line += fmt::format("  {}%  round {}  {}  {} left  dirty {}  ETA {}", Percent(progress),
                        progress.iterations(), FormatRate(progress.bytes_per_second()),
                        FormatBytes(progress.ram_remaining_bytes()),
                        FormatRate(progress.dirty_bytes_per_second()), TimeLeft(progress));
  }
  line += fmt::format("  {}", migration.encrypted() ? migration.cipher() : "in the clear");
  if (migration.engine() != v1::ENGINE_UNSPECIFIED) {
    line += fmt::format("  {}", Word(migration.engine()));
  }
  if (!progress.detail().empty()) line += fmt::format("  ({})", progress.detail());
  return Printable(line);
}

ProgressLine::ProgressLine(std::ostream& out, Style style, std::function<std::size_t()> width,
                           const base::Clock& clock)
    : out_(out), style_(style), width_(std::move(width)), clock_(clock) {}

void ProgressLine::Update(const v1::Migration& migration) {
  if (style_ == Style::kRedraw) {
    Redraw(FormatProgress(migration));
    return;
  }
  const base::Duration now = clock_.SinceBoot();
  const bool due = !last_line_ || now - *last_line_ >= kLineInterval;
  if (!due && migration.progress().phase() == phase_) return;
  out_ << FormatProgress(migration) << std::endl;
  phase_ = migration.progress().phase();
  last_line_ = now;
}

void ProgressLine::Clear() {
  if (drawn_ == 0) return;
  Redraw("");
  out_ << '\r' << std::flush;
}

void ProgressLine::Redraw(std::string text) {
  const std::size_t columns = std::max<std::size_t>(width_(), 2) - 1;  // the last column may wrap
  text = Clipped(text, columns);
  const std::size_t width = DisplayWidth(text);
  const std::size_t stale = std::min(drawn_, columns);
  out_ << '\r' << text << std::string(stale > width ? stale - width : 0, ' ') << std::flush;
  drawn_ = width;
}

}  // namespace sealift::cli
