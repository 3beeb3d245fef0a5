// A real `sealift` process under test.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace sealift::cli {

// Result of a process: `signal` is 0 unless one ended it. `raw` says how it left its terminal.
struct Result {
  int exit_code = -1;
  int signal = 0;
  bool raw = false;
  std::string out;
  std::string err;
};

// Child runs one program. Everything it writes is collected all the time; a child that is still
// there is killed by the destructor.
class Child {
 public:
  // kTerminal connects all three streams to a terminal of 80 columns; what is written there is
  // `out`.
  enum class Wiring { kPipes, kTerminal };

  Child(const std::string& program, const std::vector<std::string>& arguments,
        const std::map<std::string, std::string>& environment, Wiring wiring);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Type(const std::string& text);
  void CloseInput() { input_.reset(); }
  void Signal(int signal) const;

  // WaitForOut and WaitForErr wait until a text was written; false when 20 s pass or the child
  // closes the stream first.
  [[nodiscard]] bool WaitForOut(const std::string& text) { return out_.WaitFor(text); }
  [[nodiscard]] bool WaitForErr(const std::string& text) { return err_.WaitFor(text); }

  // Wait closes the input of a child on pipes and waits for its end.
  Result Wait();

  // Raw says whether the child's terminal passes keys on as they are.
  [[nodiscard]] bool Raw() const;

 private:
  // Collector reads a descriptor to its end in a thread of its own.
  class Collector {
   public:
    ~Collector();
    void Start(int fd);
    bool WaitFor(const std::string& text);
    std::string Join();

   private:
    void Collect(int fd);
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string text_;
    bool ended_ = false;
    std::thread thread_;
  };

  base::UniqueFd input_;
  base::UniqueFd output_;
  base::UniqueFd errors_;
  base::UniqueFd slave_;
  Collector out_;
  Collector err_;
  pid_t pid_ = -1;
};

}  // namespace sealift::cli
