/* A stub to compile firmware/ without ESP-IDF: what is used of <lwip/ip_addr.h>, and nothing behind it. */
#ifndef STUB_LWIP_IP_ADDR_H
#define STUB_LWIP_IP_ADDR_H

#include <stdint.h>

typedef struct {
    struct {
        uint32_t addr;
    } stub_ip4;
    uint8_t stub_type;
} ip_addr_t;

#define ip_addr_set_ip4_u32(address, value)     \
    do {                                        \
        (address)->stub_ip4.addr = (value);     \
        (address)->stub_type = 0; /* of IPv4 */ \
    } while (0)

#endif
