// sealift: the command line. The tree of commands is put together in app.cc; every noun has a file
// of its own.
#include "cli/app.h"

int main(int argc, char** argv) { return sealift::cli::RunCommandLine(argc, argv); }
