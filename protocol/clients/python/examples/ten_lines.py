import asyncio, os, queued


async def main() -> None:
    async with queued.connect(os.environ["QUEUECTL_SERVERS"]) as client:
        await client.push("mail", b"to ann", headers={"type": "text"}, create=True)
        async with client.consume("mail") as messages:
            async for message in messages:
                async with message:
                    print(message.headers["type"], message.body.decode())
                break


asyncio.run(main())
