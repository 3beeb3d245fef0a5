// What the files of `sealift host` share.
#pragma once

#include "cli/command.h"

namespace sealift::cli {

void AddHostDrainVerbs(const Noun& host, Action& chosen);

}  // namespace sealift::cli
