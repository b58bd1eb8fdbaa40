/* A stub to compile firmware/ without ESP-IDF: what is used of <lwip/sockets.h>, and nothing behind it. */
#ifndef STUB_LWIP_SOCKETS_H
#define STUB_LWIP_SOCKETS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define AF_INET 2
#define SOCK_DGRAM 2
#define IPPROTO_UDP 17
typedef uint32_t socklen_t;
struct sockaddr {
    uint8_t stub[16];
};
struct in_addr {
    uint32_t s_addr;
};
struct sockaddr_in {
    uint8_t sin_len, sin_family;
    uint16_t sin_port;
    struct in_addr sin_addr;
    char sin_zero[8];
};

int socket(int domain, int type, int protocol);
ssize_t sendto(int s, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t tolen);
int inet_pton(int af, const char *src, void *dst);
uint16_t htons(uint16_t x);

#endif
