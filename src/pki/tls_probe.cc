#include "pki/tls_probe.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>

#include "base/status.h"
#include "pki/openssl.h"

namespace sealift::pki {
namespace {

using ContextPtr = Owned<SSL_CTX, SSL_CTX_free>;
using ConnectionPtr = Owned<SSL, SSL_free>;

constexpr unsigned char kHttp2[] = {2, 'h', '2'};  // ALPN, RFC 7301

// NoBrokenPipe keeps SIGPIPE from this thread: OpenSSL writes with write(2), and the server may
// have hung up.
class NoBrokenPipe {
 public:
  NoBrokenPipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  NoBrokenPipe(const NoBrokenPipe&) = delete;
  NoBrokenPipe& operator=(const NoBrokenPipe&) = delete;
  ~NoBrokenPipe() {
    const timespec now{};
    if (sigismember(&before_, SIGPIPE) == 0) sigtimedwait(&pipe_, nullptr, &now);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_{};
  sigset_t before_{};
};

absl::Status SetTimeout(int socket, base::Duration timeout) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(timeout).count();
  const timeval value{micros / 1'000'000, micros % 1'000'000};
  if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value) != 0 ||
      setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value) != 0) {
    return base::ErrnoStatus("set the timeout of a socket", errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<ContextPtr> MakeContext(TlsVersion version) {
  const int protocol = version == TlsVersion::k12 ? TLS1_2_VERSION : TLS1_3_VERSION;
  ContextPtr context(SSL_CTX_new(TLS_client_method()));
  if (!context || SSL_CTX_set_min_proto_version(context.get(), protocol) != 1 ||
      SSL_CTX_set_max_proto_version(context.get(), protocol) != 1 ||
      SSL_CTX_set_cipher_list(context.get(), "ALL:@SECLEVEL=0") != 1 ||
      SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof kHttp2) != 0) {
    return OpenSslError(absl::StatusCode::kInternal, "set up a TLS probe");
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  return context;
}

// NoteServerHello is a message callback. Only a server that agrees to the version offered answers
// with a ServerHello; the handshake as a whole may still fail for want of a client certificate.
void NoteServerHello(int written, int, int content_type, const void* message, std::size_t size,
                     SSL*, void* agreed) {
  if (written == 0 && content_type == SSL3_RT_HANDSHAKE && size > 0 &&
      *static_cast<const unsigned char*>(message) == SSL3_MT_SERVER_HELLO) {
    *static_cast<bool*>(agreed) = true;
  }
}

}  // namespace

absl::StatusOr<bool> ProbeTls(const base::HostPort& address, TlsVersion version,
                              base::Duration timeout) {
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd socket, base::ConnectTcp(address, timeout));
  SEALIFT_RETURN_IF_ERROR(SetTimeout(socket.get(), timeout));
  SEALIFT_ASSIGN_OR_RETURN(const ContextPtr context, MakeContext(version));
  const NoBrokenPipe no_broken_pipe;
  const ConnectionPtr connection(SSL_new(context.get()));
  if (!connection || SSL_set_fd(connection.get(), socket.get()) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "set up a TLS probe");
  }
  bool agreed = false;
  SSL_set_msg_callback(connection.get(), NoteServerHello);
  SSL_set_msg_callback_arg(connection.get(), &agreed);
  errno = 0;
  (void)SSL_connect(connection.get());  // what counts was noted on the way
  const int error_number = errno;
  ERR_clear_error();
  if (!agreed && (error_number == EAGAIN || error_number == EWOULDBLOCK)) {
    return absl::DeadlineExceededError(
        fmt::format("probe TLS of {}: no answer in time", address.ToString()));
  }
  return agreed;
}

}  // namespace sealift::pki
