#include "base/utf8.h"

#include <algorithm>

namespace sealift::base {
namespace {

// The length of the UTF-8 sequence that starts with `first`; 0 when none does.
std::size_t LengthOf(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  if (first >= 0xf0 && first < 0xf5) return 4;
  return 0;
}

// Overlong forms, surrogates and numbers past U+10FFFF show in the second byte (RFC 3629 §4).
bool IsSecondByte(unsigned char first, unsigned char second) {
  const unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  return second >= low && second <= high;
}

// The length of the character that the text, which is not empty, starts with; 0 when it is none.
std::size_t FirstCharacter(std::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  const std::size_t length = LengthOf(first);
  if (length == 0 || length > text.size()) return 0;
  if (length > 1 && !IsSecondByte(first, static_cast<unsigned char>(text[1]))) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0U) != 0x80) return 0;
  }
  return length;
}

bool IsControl(std::string_view character) {
  const auto first = static_cast<unsigned char>(character.front());
  if (character.size() == 1) return first < ' ' || first == 0x7f;
  return first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = FirstCharacter(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

bool HasControlCharacters(std::string_view text) {
  while (!text.empty()) {
    const std::string_view next = text.substr(0, std::max<std::size_t>(FirstCharacter(text), 1));
    if (IsControl(next)) return true;
    text.remove_prefix(next.size());
  }
  return false;
}

std::string MakeUtf8(std::string_view text, std::size_t max_size) {
  std::string made;
  while (!text.empty()) {
    const std::size_t length = FirstCharacter(text);
    const std::string_view next = length == 0 ? "?" : text.substr(0, length);
    if (made.size() + next.size() > max_size) break;
    made += next;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return made;
}

std::string MakeLine(std::string_view text, std::size_t max_size) {
  const std::string made = MakeUtf8(text, max_size);
  std::string line;
  for (std::string_view left = made; !left.empty();) {
    const std::string_view next = left.substr(0, FirstCharacter(left));
    line += IsControl(next) ? std::string_view(" ") : next;
    left.remove_prefix(next.size());
  }
  return line;
}

}  // namespace sealift::base
